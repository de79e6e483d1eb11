"""The bytes of collectives, of programs for which they are known."""

import keras
import numpy as np
import pytest

from benchmarks import collectives

ON_JAX = pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX only")


def mesh_of(*shape):
    import jax

    devices = np.array(jax.devices()).reshape(shape)
    names = [f"axis_{i}" for i in range(len(shape))]
    return jax.sharding.Mesh(devices, names)


@ON_JAX
def test_collectives_of_a_compiled_program():
    import jax
    from jax.sharding import PartitionSpec as P

    mesh = mesh_of(2, 4)

    def exchange(x):  # 1,024 float32 on each device, 4 KiB.
        gathered = jax.lax.all_gather(x, "axis_1")  # 16 KiB from 4 devices.
        scattered = jax.lax.psum_scatter(x, "axis_1", tiled=True)  # 1 KiB.
        exchanged = jax.lax.all_to_all(x, "axis_0", 0, 0, tiled=True)
        moved = jax.lax.ppermute(x, "axis_0", [(0, 1), (1, 0)])
        everywhere = jax.lax.psum(x, ("axis_0", "axis_1"))
        half = jax.lax.psum(x.astype("float16"), "axis_0")
        return gathered, scattered, exchanged, moved, everywhere, half

    exchange = jax.shard_map(
        exchange,
        mesh=mesh,
        in_specs=P(("axis_0", "axis_1")),
        out_specs=P(("axis_0", "axis_1")),
        check_vma=False,
    )
    x = jax.ShapeDtypeStruct((8 * 1024,), "float32")
    sent = collectives.sent_bytes(
        jax.jit(exchange).lower(x).compile().as_text()
    )
    kib = 1024
    assert sent == {
        "all-gather": 3 * 4 * kib,  # A part of 4 KiB to each of 3 others.
        "reduce-scatter": 3 * kib,
        "all-to-all": 2 * kib,
        "collective-permute": 4 * kib,
        # 7 of 8 parts of 512 bytes, twice, and half of the array, twice.
        "all-reduce": 2 * 7 * 512 + 2 * kib,
    }


@ON_JAX
def test_a_product_of_a_split_matrix():
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = mesh_of(8)
    split = NamedSharding(mesh, P("axis_0"))
    whole = NamedSharding(mesh, P())
    step = jax.jit(lambda x: x.sum(axis=0), out_shardings=whole)
    x = jax.ShapeDtypeStruct((16, 640), "float32", sharding=split)
    sent = collectives.sent_bytes(step.lower(x).compile().as_text())
    assert sent == {"all-reduce": 2 * 7 / 8 * 640 * 4}


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "groups, size",
    [
        ("replica_groups={{0,1,2},{3,4,5}}, dimensions={0}", 3),
        ("replica_groups=[2,4]<=[8], dimensions={0}", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add", 2),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add", 4),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}, channel_id=1", 8),
        ("replica_groups=mesh['a'=4], device_ids=([2,2]T(1,0)) {'a'}", 4),
        ("replica_groups=mesh['a'=8,'b'=2] {'a':(2)4,'b'}, channel_id=1", 8),
    ],
)
def test_sizes_of_groups(groups, size):
    assert collectives.group_size(f"%x), {groups}") == size


@pytest.mark.any_backend
def test_types():
    for text, size in (
        ("f32[]", 4),
        ("bf16[2,8]{1,0}", 32),
        ("(f32[3]{0}, /*index=1*/pred[4]{0}, f8e4m3fn[8]{0})", 12 + 4 + 8),
    ):
        assert collectives.array_bytes(text) == size


@pytest.mark.any_backend
def test_collectives_that_cannot_be_counted():
    line = "  %x = f32[8]{0} all-reduce(%y), replica_groups={{0,1}}"
    whole = "ENTRY %main () -> f32[8] {\n"
    assert collectives.sent_bytes(whole + line) == {"all-reduce": 32.0}
    with pytest.raises(ValueError, match="cannot be counted"):
        collectives.sent_bytes("%body () -> f32[8] {\n" + line)
    with pytest.raises(ValueError, match="cannot be counted"):
        collectives.sent_bytes(whole + line.replace("(%y", "-start(%y"))
