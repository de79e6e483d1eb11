"""Distillations as runs: the student, the teacher's part, resumption."""

import csv
import dataclasses
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.data.sources import ArraySource
from keras_simple_diffusion.data.sources import RelabelledSource
from keras_simple_diffusion.training import Interrupted
from keras_simple_diffusion.training import RunSettings
from keras_simple_diffusion.training import distill_run
from keras_simple_diffusion.training import plots
from keras_simple_diffusion.training import resume_run
from keras_simple_diffusion.training import students
from keras_simple_diffusion.training import train_run
from keras_simple_diffusion.training.checkpoint import Checkpoints
from keras_simple_diffusion.training.distillation_plan import plan_distillation
from keras_simple_diffusion.training.lifecycle import Interruption
from keras_simple_diffusion.training.settings import StudentSettings
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.image_files import read_settings
from tests.helpers.models import make_model
from tests.helpers.models import make_text_encoder
from tests.helpers.models import randomize

NETWORK = {
    "image_shape": (8, 8, 1),
    "channels": (8, 16),
    "blocks": (1, 1),
    "dropout": 0.2,
}
UPDATES = 6


def write_teacher(folder, **options):
    """Write a small teacher of digits, with random weights, as a preset."""
    model = make_model(
        10,
        backbone=NETWORK,
        **{
            "class_names": [str(digit) for digit in range(10)],
            "num_steps": 4,
            "guidance_scale": 1.5,
            **options,
        },
    )
    randomize(model.backbone)
    model.save_to_preset(folder)
    recipe = {"batch_size": 4, "learning_rate": 1e-3}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher") / "demo")


def arrays_of(run):
    arrays, _ = Checkpoints(run / "checkpoints").latest()
    with arrays:
        return {name: arrays[name] for name in arrays.keys()}


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.fixture
def kill_after(monkeypatch):
    """Let this process stop a training after some steps, without saving."""

    def kill_after(steps):
        def kill(self):
            if self.position.step == steps:
                raise MemoryError("killed")

        monkeypatch.setattr(Interruption, "on_step_end", kill)

    return kill_after


# === Resumption ===


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("consistency", marks=pytest.mark.any_backend),
        pytest.param("progressive", marks=pytest.mark.any_backend(on="jax")),
        pytest.param("moments", marks=pytest.mark.any_backend(on="tensorflow")),
    ],
)
def test_killed_and_resumed_is_as_straight(
    method, teacher, tmp_path, kill_after
):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    options = {"num_steps": 8, "method": method, "checkpoint_every": 2}
    options |= {"steps": UPDATES, "accumulate": 2}
    distill_run(teacher, "digits", straight, **options)
    kill_after(3)
    with pytest.raises(MemoryError, match="killed"):
        distill_run(teacher, "digits", killed, **options)
    assert Checkpoints(killed / "checkpoints").steps() == [0, 2]
    kill_after(None)
    resume_run(killed)
    ours, theirs = arrays_of(straight), arrays_of(killed)
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert history(straight) == history(killed)
    for name in ("samples.png", "samples/teacher.png"):
        with Image.open(straight / name) as a, Image.open(killed / name) as b:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.any_backend
def test_an_interrupted_run_goes_on_without_its_teacher(tmp_path, monkeypatch):
    teacher = write_teacher(tmp_path / "teacher")
    before = Interruption.on_step_end

    def interrupt(self):
        if self.position.step == 2 and self.position.signal is None:
            os.kill(os.getpid(), signal.SIGTERM)
        before(self)

    monkeypatch.setattr(Interruption, "on_step_end", interrupt)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        distill_run(teacher, "digits", run, num_steps=2, steps=3)
    monkeypatch.undo()
    teacher.rename(tmp_path / "away")
    student = resume_run(run, steps=4)
    assert student.num_steps == student.distilled_steps == 2
    # The method's own schedule is that of the start.
    settings = RunSettings.read(run)
    assert (settings.recipe.steps, settings.student.updates) == (4, 3)


# === The student ===


@pytest.fixture(scope="module")
def distilled(teacher, tmp_path_factory):
    run = tmp_path_factory.mktemp("distilled") / "run"
    options = {"num_steps": 2, "steps": 4, "samples_every": 2}
    return run, distill_run(teacher, "digits", run, **options)


@pytest.mark.any_backend
def test_the_run_is_a_student_that_says_so(distilled, teacher):
    run, student = distilled
    assert (student.num_steps, student.guidance_scale) == (2, 1.0)
    settings = RunSettings.read(run)
    assert settings.student == StudentSettings("consistency", 2, 1.5, 4)
    assert settings.preset == str(teacher)
    loaded = ksd.models.DiffusionModel.from_preset(run)
    assert loaded.class_names == student.class_names
    np.testing.assert_allclose(
        loaded.generate(labels=[3], seed=0).astype("int32"),
        student.generate(labels=[3], seed=0),
        atol=1,
    )
    for wrong in ({"num_steps": 4}, {"guidance_scale": 1.5}):
        with pytest.raises(InputError, match="distilled for 2 steps of DDIM"):
            loaded.generate(labels=[3], **wrong)
    with pytest.raises(InputError, match="is a student, for 2 steps"):
        distill_run(run, "digits", run.parent / "second")
    with pytest.raises(InputError, match="is a student, for 2 steps"):
        train_run("digits", run.parent / "second", run)


@pytest.mark.any_backend
def test_sheets_of_both_lie_beside_each_other(distilled):
    run, _ = distilled
    names = sorted(path.name for path in (run / "samples").iterdir())
    assert names == ["00000002.png", "00000004.png", "teacher.png"]
    page = (run / "index.html").read_text()
    places = [
        page.index(f'alt="{text}"')
        for text in ("teacher", "step 2", "step 4", "at the end")
    ]
    assert places == sorted(places)
    assert "student    2 steps without guidance" in page
    written = read_settings(run / "samples" / "teacher.png")
    assert (written["steps"], written["guidance"]) == (4, 1.5)
    assert written["model"] == "demo"


@pytest.mark.any_backend
def test_the_student_starts_as_its_teacher(teacher, tmp_path):
    student = distill_run(
        teacher, "digits", tmp_path / "run", steps=1, learning_rate=1e-12
    )
    model = ksd.models.DiffusionModel.from_preset(teacher)
    options = {"num_steps": 4, "guidance_scale": 1.0, "sampler": "ddim"}
    ours = student.generate(labels=[1, 2], seed=1).astype("int32")
    theirs = model.generate(labels=[1, 2], seed=1, **options)
    np.testing.assert_allclose(ours, theirs, atol=1)


def test_a_student_starts_from_an_earlier_one(distilled, teacher, tmp_path):
    earlier, before = distilled
    options = {"num_steps": 2, "steps": 2, "initialize_from": str(earlier)}
    run = tmp_path / "run"
    student = distill_run(
        teacher,
        "digits",
        run,
        method="moments",
        learning_rate=1e-12,
        **options,
    )
    # The same network, with another sampler.
    ours = student.generate(labels=[1, 2], seed=1, sampler="ddim", allow=True)
    theirs = before.generate(labels=[1, 2], seed=1).astype("int32")
    np.testing.assert_allclose(ours, theirs, atol=1)
    settings = RunSettings.read(run)
    assert f"'moments', from '{earlier}'" in settings.plan[2]
    assert resume_run(run, steps=3).distilled_steps == 2
    # Consistency goes on with the teacher's last number of steps.
    settings = dataclasses.replace(
        settings, student=StudentSettings("consistency", 2, 1.5, 4)
    )
    model = ksd.models.DiffusionModel.from_preset(teacher)
    built = students.build_distillation(model, None, settings)
    assert built.teacher_steps == (1280, 1280)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, message",
    [
        ({"initialize_from": "demo"}, "demo', which is no student"),
        ({"num_steps": 3}, "run', which draws in 2 steps"),
        ({"method": "progressive"}, "cannot start from a student"),
        ({"initialize_from": "missing"}, "missing"),
        ({"guidance_scale": (1.0, 4.0)}, "takes no guidance scale, and the"),
    ],
)
def test_students_to_start_from(options, message, distilled, teacher, tmp_path):
    options = {"num_steps": 2, "steps": 1, **options}
    options.setdefault("initialize_from", str(distilled[0]))
    if options["initialize_from"] == "demo":
        options["initialize_from"] = str(teacher)
    with pytest.raises(InputError, match=message):
        distill_run(teacher, "digits", tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options",
    [{"class_names": [*"abcdefghij"]}, {"prediction_type": "epsilon"}],
)
def test_a_student_of_another_teacher(options, distilled, tmp_path):
    other = write_teacher(tmp_path / "other", **options)
    start = {"num_steps": 2, "steps": 1, "initialize_from": distilled[0]}
    with pytest.raises(InputError, match="no student of this teacher"):
        distill_run(other, "digits", tmp_path / "run", **start)
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
def test_a_student_that_takes_scales_goes_on_as_one(teacher, tmp_path):
    options = {"num_steps": 2, "steps": 1, "guidance_scale": (1.0, 3.0)}
    earlier = tmp_path / "earlier"
    distill_run(teacher, "digits", earlier, **options)
    options["initialize_from"] = ksd.models.Preset.open(earlier)
    student = distill_run(teacher, "digits", tmp_path / "run", **options)
    assert student.backbone.guidance_range == (1.0, 3.0)
    options["guidance_scale"] = 2.0
    with pytest.raises(InputError, match="takes guidance scales of 1 to 3"):
        distill_run(teacher, "digits", tmp_path / "other", **options)


@pytest.mark.any_backend
def test_a_scale_of_guidance_is_left_to_the_student(teacher, tmp_path):
    run = tmp_path / "run"
    options = {"num_steps": 2, "steps": 1, "guidance_scale": (1.0, 3.0)}
    distill_run(teacher, "digits", run, **options)
    student = resume_run(run, steps=2)
    assert student.backbone.guidance_range == (1.0, 3.0)
    settings = RunSettings.read(run)
    assert settings.student.guidance_scale == [1.0, 3.0]
    assert "2 steps with this guidance as an input" in settings.plan[2]
    assert "guidance 1 to 3" in settings.plan[1]
    loaded = ksd.models.DiffusionModel.from_preset(run)
    assert loaded.generate(labels=[3], guidance_scale=3.0).shape == (1, 8, 8, 1)


# === Images and their classes ===


@pytest.mark.any_backend
def test_classes_are_numbered_as_the_teachers():
    kind = students.Kind("t", 3, ["red", "Light green", "blue"], False)
    assert kind.match(["red", "Light green", "blue"], False) == [0, 1, 2]
    assert kind.match(["blue", "light_green"], False) == [2, 1]
    with pytest.raises(InputError, match="not draw the classes black of"):
        kind.match(["black", "red"], False)
    with pytest.raises(InputError, match="and the images have none"):
        kind.match(None, False)
    kind = students.Kind("t", 3, None, False)
    assert kind.match(["a", "b", "c"], False) == [0, 1, 2]
    with pytest.raises(InputError, match="and the images have 2"):
        kind.match(["a", "b"], False)
    assert students.Kind("t", None, None, False).match(["a"], False) is None


@pytest.mark.any_backend
def test_a_source_with_other_numbers_of_its_classes():
    images = np.zeros((3, 2, 2, 1), "uint8")
    source = ArraySource(images, [0, 1, 1], ["b", "a"])
    other = RelabelledSource(source, ["a", "b", "c"], [1, 0])
    assert [int(other[i]["labels"]) for i in range(3)] == [1, 0, 0]
    assert other.class_names == ["a", "b", "c"]
    assert other.fingerprint == source.fingerprint
    assert set(RelabelledSource(source, None)[0]) == {"images"}


@pytest.mark.any_backend
@pytest.mark.parametrize("names", [["b", "a"], None])
def test_images_of_fewer_or_no_classes(names, tmp_path):
    # A teacher without classes takes images with classes, too.
    teacher = make_model(
        names and 2,
        backbone=NETWORK,
        class_names=names,
        num_steps=2,
    )
    teacher.save_to_preset(tmp_path / "teacher")
    (tmp_path / "teacher" / "recipe.json").write_text('{"batch_size": 4}')
    for index in range(4):
        path = tmp_path / "images" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 50 * index).save(path)
    student = distill_run(
        tmp_path / "teacher",
        tmp_path / "images",
        tmp_path / "run",
        method="moments",
        steps=1,
    )
    assert student.class_names == names
    assert student.generate(2, labels=names and [0, 1]).shape == (2, 8, 8, 1)


@pytest.mark.any_backend
def test_a_teacher_of_texts(tmp_path, capsys):
    texts = ["a red apple", "a ship"]
    encoder = make_text_encoder(texts)
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (8,), (1,), num_heads=2, embedding_dim=16, context_dim=8
    )
    teacher = ksd.models.TextToImage(backbone, encoder, num_steps=2)
    teacher.save_to_preset(tmp_path / "teacher")
    (tmp_path / "teacher" / "recipe.json").write_text('{"batch_size": 2}')
    rows = []
    (tmp_path / "images").mkdir()
    for index in range(4):
        name = f"{index}.png"
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name)
        rows.append(json.dumps({"file_name": name, "text": texts[index % 2]}))
    (tmp_path / "images" / "metadata.jsonl").write_text("\n".join(rows))
    run = tmp_path / "run"
    options = {"num_steps": 2, "steps": 2}
    distill_run(tmp_path / "teacher", tmp_path / "images", run, **options)
    assert "4 images of 8 x 8 x 3, with captions; " in "".join(
        capsys.readouterr()
    )
    # The encoder, which is not trained, is in the checkpoint.
    student = resume_run(run, steps=3)
    for ours, theirs in zip(
        student.text_encoder.get_weights(), encoder.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert student.generate("a ship").shape == (8, 8, 3)
    start = {"initialize_from": str(run), **options}
    distill_run(
        tmp_path / "teacher", tmp_path / "images", tmp_path / "next", **start
    )
    # Classes beside the captions mean nothing to this teacher.
    for index in range(4):
        path = tmp_path / "classes" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
        path.with_suffix(".txt").write_text(texts[index % 2])
    classes, third = tmp_path / "classes", tmp_path / "third"
    distill_run(tmp_path / "teacher", classes, third, **options)
    with pytest.raises(InputError, match="metadata.jsonl"):
        distill_run(tmp_path / "teacher", "digits", tmp_path / "other")
    encoder.set_weights([2 * value for value in encoder.get_weights()])
    teacher.save_to_preset(tmp_path / "changed")
    with pytest.raises(InputError, match="no student of this teacher"):
        distill_run(
            tmp_path / "changed", tmp_path / "images", tmp_path / "no", **start
        )
    assert not (tmp_path / "no").exists()


# === The plan ===


@pytest.mark.any_backend
def test_the_plan_counts_what_a_method_costs(teacher, monkeypatch):
    preset = ksd.models.Preset.open(teacher)
    model = preset.load()
    monkeypatch.setattr(
        "keras_simple_diffusion.training.planning.measure_speed",
        lambda *arguments: 100.0,
    )

    def plan(method, guidance=1.5, **options):
        student = StudentSettings(method, 4, guidance, 1)
        options = {"data": "digits", **options}
        return plan_distillation(model, preset, student, options)

    images = {}
    for method in students.METHODS:
        chosen, lines = plan(method, minutes=10.0)
        images[method] = chosen["steps"] * chosen["batch_size"]
        assert "time       about 10 min" in lines[-1]
        assert f"by the method '{method}'" in lines[2]
    # 100 images a second in training, of three forward passes each.
    for method, passes in (("consistency", 6), ("progressive", 7)):
        expected = 0.85 * 600 * 100 * 3 / passes
        assert abs(images[method] - expected) <= 4
    assert abs(images["moments"] - 0.85 * 600 * 100 * 3 / 8) <= 4
    chosen, lines = plan("consistency", steps=50, batch_size=2)
    assert (chosen["steps"], chosen["batch_size"]) == (50, 2)
    assert len(lines) == 6 and "50 updates of 2 images" in lines[4]
    assert plan("moments", steps=50)[0]["beta_1"] == 0.0
    unguided, _ = plan("consistency", guidance=1.0, minutes=10.0)
    assert unguided["steps"] > images["consistency"] / 4


@pytest.mark.any_backend
def test_progressive_phases_fill_the_run():
    for steps, halvings in ((1, 6), (2, 5), (4, 4), (64, 1), (100, 1)):
        student = StudentSettings("progressive", steps, 1.0, 100)
        assert students.count_halvings(student) == halvings


@pytest.mark.any_backend
def test_losses_below_zero_are_drawn(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("step,loss\n1,-0.5\n2,0.25\n3,-0.125\n")
    plots.draw_loss(path, tmp_path / "loss.svg", format="svg")
    ticks = (tmp_path / "loss.svg").read_text()
    assert "−0.4" in ticks and "0.2" in ticks


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_steps": 2000}, "num_steps=2000"),
        ({"method": "magic"}, "'consistency', 'progressive', 'moments'"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"guidance_scale": (2.0, 1.0)}, "guidance_scale=1.0"),
        ({"steps": 0}, "steps=0"),
        ({"batch_size": 3, "accumulate": 2}, "multiple of `accumulate`"),
        ({"image_size": 16}, "Unknown setting 'image_size'"),
        ({"snapshots": 4}, "Unknown setting 'snapshots'"),
    ],
)
def test_bad_settings(options, message, teacher, tmp_path):
    with pytest.raises(InputError, match=message):
        distill_run(teacher, "digits", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
def test_teachers_that_cannot_teach(tmp_path):
    with pytest.raises(InputError, match="without weights. Train it first"):
        distill_run("uvit_digits_16", "digits", tmp_path / "run")
    make_model(None, backbone=NETWORK).save_to_preset(tmp_path / "plain")
    with pytest.raises(InputError, match="unconditional"):
        distill_run(
            tmp_path / "plain", "digits", tmp_path / "run", guidance_scale=2.0
        )
    assert not (tmp_path / "run").exists()
