"""A run that is cut short goes on as if nothing had happened."""

import csv
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training import Interrupted
from keras_simple_diffusion.training import distill_run
from keras_simple_diffusion.training import lifecycle
from keras_simple_diffusion.training import reconstruct
from keras_simple_diffusion.training import resume_run
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.lifecycle import Interruption
from keras_simple_diffusion.training.lifecycle import Position
from keras_simple_diffusion.training.lifecycle import Saving
from keras_simple_diffusion.utils.errors import InputError

STEPS = 8
# Columns of the history that are measured with a clock.
CLOCKED = ("seconds", "images_per_second", "waiting")
BACKBONES = {
    "uvit": (ksd.models.UViTBackbone, {}),
    "unet": (ksd.models.UNetBackbone, {"attention_levels": (1,)}),
}


def write_preset(folder, kind, **recipe):
    backbone, arguments = BACKBONES[kind]
    network = backbone(
        (8, 8, 1),
        (8, 16),
        (1, 1),
        num_heads=2,
        dropout=0.2,
        num_classes=10,
        embedding_dim=16,
        **arguments,
    )
    model = ksd.models.DiffusionModel(network, num_steps=2)
    model.save_to_preset(folder)
    recipe = {"batch_size": 4, "warmup_steps": 2, "steps": STEPS, **recipe}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes, twelve images to train on and four held out."""
    folder = tmp_path_factory.mktemp("images")
    images, _ = ksd.data.load_digits(8)
    for index, image in enumerate(images[:16]):
        split = "train" if index < 12 else "test"
        path = folder / split / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return folder


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_preset(tmp_path_factory.mktemp("preset"), "uvit", accumulate=2)


@pytest.fixture
def terminate(monkeypatch):
    """Send this process a signal after a number of its steps."""

    def terminate_after(steps, number=signal.SIGTERM):
        done = []

        def count(self):
            done.append(1)
            if len(done) == steps:
                os.kill(os.getpid(), number)
            on_step_end(self)

        monkeypatch.setattr(Interruption, "on_step_end", count)

    on_step_end = Interruption.on_step_end
    yield terminate_after


def last_arrays(run):
    arrays, state = Checkpoints(run / "checkpoints").latest()
    with arrays:
        return {name: arrays[name] for name in arrays.keys()}, state


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in CLOCKED}
            for row in csv.DictReader(file)
        ]


def assert_equal_runs(first, second):
    (ours, _), (theirs, _) = last_arrays(first), last_arrays(second)
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert history(first) == history(second)


@pytest.fixture(scope="module")
def straight(preset, photos, tmp_path_factory):
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    train_run(photos, folder, preset)
    return folder


def test_interrupted_and_resumed_is_as_straight(
    preset, photos, straight, tmp_path, terminate
):
    run = tmp_path / "run"
    terminate(3)
    with pytest.raises(Interrupted) as interrupted:
        train_run(photos, run, preset)
    assert interrupted.value.step == 3
    assert Checkpoints(run / "checkpoints").steps()[-1] == 3
    terminate(2)
    with pytest.raises(Interrupted):
        resume_run(run)
    terminate(0)
    resume_run(run)
    assert_equal_runs(straight, run)


def test_sheets_are_drawn_at_their_steps(
    preset, photos, tmp_path, terminate, monkeypatch
):
    # Intervals of four steps, within which the sheets lie.
    monkeypatch.setattr("keras_simple_diffusion.training.run._NUM_INTERVALS", 2)
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    train_run(photos, straight, preset)
    terminate(5)
    with pytest.raises(Interrupted):
        train_run(photos, cut, preset, samples_every=3)

    def sheets():
        return {x.name: x.read_bytes() for x in (cut / "samples").iterdir()}

    first = sheets()
    assert list(first) == ["00000003.png"]
    resume_run(cut)
    assert sorted(sheets()) == ["00000003.png", "00000006.png"]
    assert sheets()["00000003.png"] == first["00000003.png"]
    assert_equal_runs(straight, cut)


@pytest.mark.large
def test_a_unet_too(photos, tmp_path, terminate):
    preset = write_preset(tmp_path / "preset", "unet")
    train_run(photos, tmp_path / "straight", preset)
    terminate(3)
    with pytest.raises(Interrupted):
        train_run(photos, tmp_path / "cut", preset)
    resume_run(tmp_path / "cut")
    assert_equal_runs(tmp_path / "straight", tmp_path / "cut")


@pytest.mark.any_backend
def test_a_second_signal_and_ctrl_c(preset, tmp_path, terminate, photos):
    terminate(2, signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as interrupted:
        train_run(photos, tmp_path / "run", preset)
    assert interrupted.value.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.any_backend
def test_a_damaged_checkpoint_costs_only_the_steps_after_it(
    preset, photos, straight, tmp_path
):
    run = tmp_path / "run"
    train_run(photos, run, preset, checkpoint_every=5, keep=2)
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.steps() == [5, STEPS]
    (checkpoints.folder / f"{STEPS:08d}" / "arrays.npz").write_bytes(b"no")
    with pytest.warns(UserWarning, match="skipped"):
        resume_run(run)
    assert_equal_runs(straight, run)


@pytest.mark.any_backend
def test_a_finished_run_can_be_made_longer(preset, photos, straight, tmp_path):
    train_run(photos, tmp_path / "run", preset, steps=5)
    resume_run(tmp_path / "run", steps=STEPS)
    assert_equal_runs(straight, tmp_path / "run")


@pytest.mark.any_backend
def test_a_finished_run_is_not_trained_further(
    preset, photos, tmp_path, terminate, monkeypatch
):
    # Two intervals of two steps, and a third that the end of the run divides.
    monkeypatch.setattr("keras_simple_diffusion.training.run._NUM_INTERVALS", 2)
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    train_run(photos, straight, preset, steps=5)
    terminate(3)
    with pytest.raises(Interrupted):
        train_run(photos, cut, preset, steps=5)
    terminate(0)
    for _ in range(2):
        resume_run(cut)
        assert Checkpoints(cut / "checkpoints").steps()[-1] == 5
        assert_equal_runs(straight, cut)
    # The time is up, too.
    resume_run(cut, steps=9, minutes=1e-9)
    assert_equal_runs(straight, cut)


@pytest.mark.any_backend
def test_metrics_of_other_intervals_are_not_restored(
    preset, photos, straight, tmp_path, terminate, monkeypatch
):
    run = tmp_path / "run"
    monkeypatch.setattr("keras_simple_diffusion.training.run._NUM_INTERVALS", 2)
    terminate(3)
    with pytest.raises(Interrupted):
        train_run(photos, run, preset, steps=5)
    terminate(0)
    monkeypatch.setattr("keras_simple_diffusion.training.run._MAX_INTERVAL", 4)
    resume_run(run, steps=STEPS)
    # The line of step 4 averages over this step alone.
    of_step = {row["step"]: row["loss"] for row in history(straight)}
    assert {row["step"]: row["loss"] for row in history(run)}["4"] == of_step[
        "4"
    ]


@pytest.mark.any_backend
def test_a_full_disk_does_not_stop_the_training(
    preset, tmp_path, monkeypatch, photos
):
    calls = []
    save = Checkpoints.save

    def save_unless_full(self, step, arrays, state):
        calls.append(step)
        if step == 3:
            raise OSError(28, "No space left on device")
        save(self, step, arrays, state)

    monkeypatch.setattr(Checkpoints, "save", save_unless_full)
    with pytest.warns(UserWarning, match="step 3 .*No space left.*step 0"):
        train_run(photos, tmp_path / "a", preset, steps=4, checkpoint_every=3)
    assert calls == [0, 3, 4]
    with pytest.raises(InputError, match="step 3 .*No space left.*step 0"):
        train_run(photos, tmp_path / "b", preset, steps=3)


@pytest.mark.any_backend
def test_a_preset_that_cannot_be_written_leaves_no_checkpoint(
    preset, tmp_path, monkeypatch, photos
):
    calls = []
    save = ksd.models.DiffusionModel.save_to_preset

    def save_unless_full(self, folder):
        calls.append(folder)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(self, folder)

    monkeypatch.setattr(
        ksd.models.DiffusionModel, "save_to_preset", save_unless_full
    )
    with pytest.warns(UserWarning, match="step 3 .*No space left.*step 0"):
        train_run(photos, tmp_path, preset, steps=4, checkpoint_every=3)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [0, 4]


def test_the_history_tells_of_speed_norms_and_levels(straight):
    rows = list(csv.DictReader((straight / "history.csv").read_text().split()))
    for row in rows:
        assert float(row["images_per_second"]) > 0
        assert 0 <= float(row["waiting"]) <= 1
        assert float(row["gradient_norm"]) > 0
        assert float(row["parameter_norm"]) > 1
    # Warm-up over two steps of two batches each.
    assert float(rows[-1]["learning_rate"]) == pytest.approx(1e-4)
    levels = [float(rows[0][f"level_loss_{i}"]) for i in range(8)]
    assert sum(level > 0 for level in levels) > 1
    with Image.open(straight / "levels.png") as plot:
        assert plot.width > 500


def test_numbers_that_are_not_finite_stop_the_run(preset, photos, tmp_path):
    run = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(InputError, match="not finite since step") as error:
        train_run(photos, run, preset, learning_rate=1e30, checkpoint_every=1)
    assert signal.getsignal(signal.SIGINT) is handler
    report = json.loads((run / "failure" / "report.json").read_text())
    assert f"since step {report['step']}," in str(error.value)
    assert len(report["log_snr"]) == 2
    with np.load(run / "failure" / "batch.npz") as batch:
        assert batch["images"].shape == (2, 8, 8, 1)
        assert report["labels"] == batch["labels"].tolist()
    # No checkpoint holds what is not a number.
    assert Checkpoints(run / "checkpoints").steps()[-1] < report["step"]
    arrays, _ = last_arrays(run)
    weights = [v for name, v in arrays.items() if name.startswith("model-")]
    assert all(np.isfinite(weight).all() for weight in weights)


def test_times_of_an_earlier_step_are_those_it_drew(preset):
    model = ksd.models.DiffusionModel.from_preset(preset, stratified=True)
    model.compile(ema_decay=None)
    images, labels = ksd.data.load_digits(8)
    batch = {"images": images[:4], "labels": labels[:4]}
    drawn = ops.convert_to_numpy(model(batch, training=True)["time"])
    for _ in range(3):
        model(batch, training=True)
    state = ops.convert_to_numpy(model.seed_generator.state)
    times = ops.convert_to_numpy(model.times_of_step(4, 4))
    np.testing.assert_array_equal(times, drawn)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.seed_generator.state), state
    )


@pytest.mark.any_backend
def test_snapshots_make_other_averages(preset, photos, tmp_path):
    run = tmp_path / "run"
    trained = train_run(
        photos, run, preset, snapshots=STEPS, learning_rate=1e-2
    )
    names = sorted(path.name for path in (run / "snapshots").iterdir())
    assert len(names) == 2 * STEPS and names[-1] == f"{STEPS:08d}-1.npz"
    # The average of `ema_decay` was tracked as well: compare with that.
    model, distance = reconstruct(
        run, ksd.optimizers.ExponentialProfile(0.9999)
    )
    assert distance < 0.1
    with trained.averaged_weights():
        for ours, tracked in zip(
            model.trainable_variables, trained.trainable_variables, strict=True
        ):
            tracked = ops.convert_to_numpy(tracked)
            ours = ops.convert_to_numpy(ours)
            scale = np.abs(tracked).max() + 1e-3
            assert np.abs(ours - tracked).max() < 0.02 * scale
    with pytest.raises(InputError, match="has no snapshots"):
        reconstruct(preset, ksd.optimizers.PowerProfile(0.1))


@pytest.mark.any_backend
def test_a_quick_distance_is_in_the_history(
    preset, photos, tmp_path, shared_data, monkeypatch
):
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))
    weights = str(shared_data / "inception2015_fid_fp32.npz")
    train_run(
        photos,
        tmp_path / "run",
        preset,
        steps=2,
        quick_fid=4,
        feature_weights=weights,
    )
    first, *_ = history(tmp_path / "run")
    assert float(first["quick_fid"]) > 1.0


@pytest.mark.any_backend
def test_images_that_changed_are_an_error(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["facts"]["fingerprint"] = "other"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="have changed since the run began"):
        resume_run(tmp_path / "run")


@pytest.mark.any_backend
@pytest.mark.parametrize("change", [None, "other"])
def test_held_out_images_that_changed_are_said(straight, tmp_path, change):
    shutil.copytree(straight, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    assert content["facts"]["held_out"] != content["facts"]["fingerprint"]
    content["facts"]["held_out"] = change
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="held-out images .* have changed"):
        resume_run(tmp_path / "run")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "name", ["preset", "samples.png", "checkpoints/00000008", "history.csv"]
)
def test_a_run_with_links_is_not_resumed(straight, tmp_path, name):
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(straight, run)
    (run / name).rename(other)
    (run / name).symlink_to(other)
    with pytest.raises(InputError, match=f"{name}' is no regular file"):
        resume_run(run, steps=STEPS + 1)
    # A link to the run itself is its owner's choice.
    (run / name).unlink()
    other.rename(run / name)
    (tmp_path / "link").symlink_to(run)
    resume_run(tmp_path / "link")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "text", [b"a,b\n1,2\n", b"step\nx\n", b"\xff\n1\n", b""]
)
def test_a_damaged_history_is_one_line(straight, tmp_path, text):
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_bytes(text)
    if text:
        with pytest.raises(InputError, match="not the history of a run"):
            resume_run(tmp_path / "run", steps=STEPS + 1)
    else:
        resume_run(tmp_path / "run", steps=STEPS + 1)


@pytest.mark.any_backend
def test_a_result_that_cannot_be_written_stops_nothing(
    preset, photos, straight, tmp_path
):
    run, block = tmp_path / "run", ("samples", "snapshots")

    class Block(Interruption):
        """It puts files where the run wants to make folders."""

        def on_train_begin(self, logs=None):
            for name in block:
                (run / name).write_text("")
            super().on_train_begin(logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "Interruption", Block)
        with pytest.warns(UserWarning, match="could not be written") as told:
            train_run(photos, run, preset, samples_every=2, snapshots=2, keep=3)
    messages = [str(each.message) for each in told]
    for name in block:
        assert any(f"{name}/0000000" in text for text in messages)
    assert history(run) == history(straight)


@pytest.mark.any_backend
def test_a_run_does_not_lie_among_its_images(preset, photos, monkeypatch):
    before = sorted(photos.rglob("*"))
    monkeypatch.chdir(photos)
    for output in (None, "runs/a", photos / "train" / "b"):
        with pytest.raises(InputError, match="among its own images"):
            train_run(".", output, preset)
    assert sorted(photos.rglob("*")) == before


@pytest.mark.any_backend
def test_a_run_at_its_end_says_how_to_go_on(straight, tmp_path, capsys):
    shutil.copytree(straight, tmp_path / "run")
    resume_run(tmp_path / "run", minutes=9)
    message = f"nothing is trained: all {STEPS} steps are done (--steps"
    assert message in capsys.readouterr().out
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(InputError, match=f"has done {STEPS} steps already"):
        resume_run(tmp_path / "run", steps=3)
    assert (tmp_path / "run" / "config.json").read_text() == before


@pytest.mark.any_backend
def test_images_that_were_moved(straight, photos, tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(straight, run)
    path = run / "config.json"
    settings = json.loads(path.read_text())
    settings["data"] = str(tmp_path / "gone")
    path.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="no longer at .*gone'.*by --data"):
        resume_run(run)
    shutil.copytree(photos, moved)
    resume_run(run, data=moved)
    assert json.loads(path.read_text())["data"] == str(moved)
    next((moved / "train").rglob("*.png")).unlink()
    with pytest.raises(InputError, match="have changed since the run began"):
        resume_run(run)


@pytest.mark.any_backend
def test_a_new_class_is_a_change_of_the_data(preset, photos, tmp_path):
    data = tmp_path / "images"
    shutil.copytree(photos, data)
    train_run(data, tmp_path / "run", preset, steps=1)
    shutil.copytree(data / "train" / "a", data / "train" / "c")
    with pytest.raises(InputError, match="images of .* have changed since"):
        resume_run(tmp_path / "run")


@pytest.mark.any_backend
def test_a_run_without_checkpoints_keeps_its_preset(straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    shutil.rmtree(run / "checkpoints")
    before = (run / "preset" / "model.weights.h5").read_bytes()
    with pytest.raises(InputError, match="there is no checkpoint in"):
        resume_run(run)
    assert (run / "preset" / "model.weights.h5").read_bytes() == before


def test_what_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match="no run at"):
        resume_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not the configuration of a run"):
        resume_run(tmp_path)


@pytest.mark.any_backend
def test_checkpoints_are_saved_by_time():
    # A step of 7 seconds, and an interval of 9 steps in which to save.
    position, seconds, saved = Position(), [0.0], [0.0]
    saving = Saving(
        position,
        lambda: saved.append(seconds[0]),
        interval=9,
        clock=lambda: seconds[0],
    )
    saving.set_model(keras.Sequential())  # It is only looked at.
    saving.on_train_begin()
    for step in range(1, 400):
        seconds[0] += 7.0
        position.step = step
        saving.on_step_end()
        if step % 9 == 0:
            saving.on_epoch_end(step // 9)
        # Whenever it is killed, at most 10 minutes and a step are lost.
        limit = 120.0 if len(saved) == 1 else 600.0
        assert seconds[0] - saved[-1] <= limit + 7.0
    assert len(saved) == 1 + 1 + (400 * 7 - 120) // 600
    # With a number of steps the time does not matter.
    every = Saving(position, lambda: saved.append(0), 9, every=1000)
    every.clock = lambda: seconds[0] + 1e6
    every.on_train_begin()
    count = len(saved)
    every.on_step_end()
    assert len(saved) == count


@pytest.mark.any_backend
def test_a_run_saves_by_time(preset, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Saving, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(Saving, "SECONDS", 0.0)
    train_run(photos, tmp_path / "run", preset, steps=3)
    steps = Checkpoints(tmp_path / "run" / "checkpoints").steps()
    assert steps == [1, 2, 3]


# === A run that is guided away from its start ===


@pytest.fixture
def unlabelled(photos, tmp_path):
    """The images in one folder, without classes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in photos.glob("*/*/*.png"):
        shutil.copy(path, folder)
    return folder


def test_a_finetuned_model_is_guided_away_from_its_start(
    preset, unlabelled, tmp_path, terminate, capsys
):
    start = ksd.models.DiffusionModel.from_preset(preset)
    model = train_run(unlabelled, tmp_path / "straight", preset)
    assert "guided away from that start by 2" in capsys.readouterr().out
    assert model.guidance_scale == 2.0
    # The guide draws as the start does without a class.
    plain = {"num_steps": 2, "seed": 1, "guidance_scale": 1.0}
    expected = start.generate(labels=[10, 10], **plain)
    guide = model.guidance_model.generate(2, **plain)
    assert np.abs(guide.astype(int) - expected.astype(int)).max() <= 1
    # The preset draws the same, and a resumed run ends the same.
    loaded = ksd.models.DiffusionModel.from_preset(tmp_path / "straight")
    drawn = {"num_images": 2, "seed": 1}
    difference = loaded.generate(**drawn).astype(int) - model.generate(**drawn)
    assert np.abs(difference).max() <= 1
    terminate(3)
    with pytest.raises(Interrupted):
        train_run(unlabelled, tmp_path / "cut", preset)
    terminate(0)
    resumed = resume_run(tmp_path / "cut")
    assert_equal_runs(tmp_path / "straight", tmp_path / "cut")
    assert resumed.guidance_scale == 2.0
    np.testing.assert_array_equal(
        resumed.generate(**drawn), model.generate(**drawn)
    )


@pytest.mark.any_backend
def test_which_runs_have_a_guide(preset, photos, unlabelled, tmp_path):
    # Classes of another name are new, and the start guides without them.
    model = train_run(photos, tmp_path / "classes", preset, steps=1)
    assert model.guidance_model is not None
    assert model.guidance_scale == 2.0
    # Random weights guide nothing, nor does a start of another prediction.
    other = ksd.models.DiffusionModel.from_preset(
        preset, load_weights=False, prediction_type="x"
    )
    other.save_to_preset(tmp_path / "other")
    model = train_run(
        unlabelled,
        tmp_path / "mixed",
        tmp_path / "other",
        initialize_from=preset,
        steps=1,
    )
    assert model.guidance_model is None
    model = train_run(
        unlabelled, tmp_path / "random", preset, steps=1, from_scratch=True
    )
    assert model.guidance_model is None
    assert model.guidance_scale == 1.0
    # A run from a guided one takes over its guide.
    first = train_run(unlabelled, tmp_path / "first", preset, steps=2)
    second = train_run(
        unlabelled, tmp_path / "second", tmp_path / "first", steps=1
    )
    expected = first.guidance_model.backbone.get_weights()
    found = second.guidance_model.backbone.get_weights()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.any_backend
def test_a_student_of_a_guided_model_is_resumed(
    preset, unlabelled, tmp_path, terminate
):
    teacher = tmp_path / "teacher"
    train_run(unlabelled, teacher, preset, steps=2)
    options = {"num_steps": 2, "steps": 4, "method": "progressive"}
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    model = distill_run(teacher, unlabelled, straight, **options)
    assert model.guidance_scale == 1.0
    config = json.loads((straight / "config.json").read_text())
    assert config["student"]["guidance_scale"] == 2.0
    terminate(2)
    with pytest.raises(Interrupted):
        distill_run(teacher, unlabelled, cut, **options)
    terminate(0)
    resume_run(cut)
    assert_equal_runs(straight, cut)
    for each in straight, cut:
        loaded = ksd.models.DiffusionModel.from_preset(each)
        guide = loaded.guidance_model.backbone.get_weights()
        theirs = ksd.models.DiffusionModel.from_preset(teacher).guidance_model
        for ours, expected in zip(
            guide, theirs.backbone.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, expected)
