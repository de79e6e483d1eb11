"""Processes of a cluster: scripts of the documentation, failures, resuming."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.training.checkpoint import Checkpoints
from tests.helpers.commands import environment
from tests.helpers.commands import run_command

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(
        keras.config.backend() != "torch",
        reason="of PyTorch: JAX has a test of its own (distribution_test.py)",
    ),
    # Matplotlib's, where other programs keep the machine busy.
    pytest.mark.filterwarnings("ignore:Creating legend:UserWarning"),
]

SCRIPTS = pathlib.Path(__file__).parents[2] / "docs" / "clusters"
COMMAND = [sys.executable, "-m", "keras_simple_diffusion"]
STEPS = 200
# Starts two processes as SLURM does, and writes their ids to a file.
SRUN = f"""#!{sys.executable}
import os, subprocess, sys
processes = []
for index in range(2):
    slurm = dict(SLURM_STEP_NODELIST="localhost", SLURM_NTASKS="2",
                 SLURM_JOB_ID=os.environ["SLURM_JOB_ID"],
                 SLURM_PROCID=str(index), SLURM_LOCALID=str(index))
    command = [sys.executable, *sys.argv[3:]]
    processes.append(subprocess.Popen(command, env={{**os.environ, **slurm}}))
with open("processes.draft", "w") as file:
    file.write(" ".join(str(process.pid) for process in processes))
os.rename("processes.draft", "processes")
sys.exit(max(process.wait() for process in processes))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with `images` and `preset`."""
    place = tmp_path_factory.mktemp("clusters")
    write_images(place / "images", 12)
    network = ksd.models.UViTBackbone(
        (8, 8, 1), (8,), (1,), num_heads=2, dropout=0.2, embedding_dim=16
    )
    model = ksd.models.DiffusionModel(network, num_steps=2)
    model.save_to_preset(place / "preset")
    recipe = {"batch_size": 4, "warmup_steps": 2, "accumulate": 2}
    (place / "preset" / "recipe.json").write_text(json.dumps(recipe))
    return place


def write_images(folder, count):
    images, _ = ksd.data.load_digits(8)
    folder.mkdir()
    for index, image in enumerate(images[:count]):
        Image.fromarray(image[..., 0]).save(folder / f"{index}.png")


def train_arguments(place, run, steps=STEPS):
    return [
        *("train", "--data", str(place / "images")),
        *("--preset", str(place / "preset"), "--output", str(run)),
        *("--distribution", "data", "--checkpoint-every", "4"),
        *("--steps", str(steps)),
    ]


def start(index, port, arguments, cwd):
    """Start one of two processes."""
    cluster = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2"]
    return subprocess.Popen(
        [*COMMAND, *arguments, *cluster, "--process-id", str(index)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def free_job():
    """Return the number of a job of SLURM whose port is free."""
    for job in range(os.getpid() % 4096, 4096):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", 61440 + job))
            return str(job)
    raise OSError("no port is free")


def error_of(process):
    """Wait until a process has failed, and return its error, one line."""
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


def wait_for(path, process, lines=0):
    """Wait until a file exists and has some lines."""
    while not path.exists() or (
        lines and len(path.read_text().splitlines()) < lines
    ):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def last_checkpoint(run):
    """Return the step of the last checkpoint of a run, and its arrays."""
    arrays, state = Checkpoints(run / "checkpoints").latest()
    with arrays:
        return state["step"], {name: arrays[name] for name in arrays}


def check_resumes_as_one_process(place, run, tmp_path):
    """Continue a run of two processes in one, and compare with one alone."""
    step, _ = last_checkpoint(run)
    steps = str(step + 4)
    resume = ["train", "--resume", str(run), "--steps", steps]
    result = run_command(*resume, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"going on from step {step}" in result.stdout
    alone = tmp_path / "alone"
    result = run_command(*train_arguments(place, alone, steps), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (_, ours), (_, theirs) = map(last_checkpoint, (run, alone))
    assert set(ours) == set(theirs)
    for name in theirs:
        if not name.startswith("metrics"):  # The intervals differ.
            np.testing.assert_allclose(
                ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name
            )


def test_a_slurm_job_that_is_preempted(place, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    scontrol = '#!/bin/sh\necho "$@" > requeued\n'
    for name, text in (("srun", SRUN), ("scontrol", scontrol)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    run = tmp_path / "run"
    arguments = ["--data", place / "images", "--preset", place / "preset"]
    job = subprocess.Popen(
        ["bash", SCRIPTS / "slurm.sbatch", run, *arguments]
        + ["--steps", str(STEPS)],
        cwd=tmp_path,
        env=environment(
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            SLURM_JOB_ID=free_job(),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(run / "history.csv", job, lines=2)  # All have begun.
    for process in (tmp_path / "processes").read_text().split():
        os.kill(int(process), signal.SIGTERM)
    output, errors = job.communicate()
    assert job.returncode == 128 + signal.SIGTERM, errors
    assert output.count("Interrupted; the run is saved at step") == 1
    assert (tmp_path / "requeued").read_text().startswith("requeue ")
    check_resumes_as_one_process(place, run, tmp_path)


def test_a_process_that_is_killed(place, tmp_path):
    run, port = tmp_path / "run", free_port()
    arguments = train_arguments(place, run)
    first, second = (start(i, port, arguments, tmp_path) for i in range(2))
    wait_for(run / "checkpoints" / "00000004", first)
    second.kill()
    second.communicate()
    line = error_of(first)
    assert line.startswith("Error: Another process of the run has ended")
    check_resumes_as_one_process(place, run, tmp_path)


def test_processes_with_different_images(place, tmp_path):
    write_images(tmp_path / "images", 11)
    shutil.copytree(place / "preset", tmp_path / "preset")
    run, port = tmp_path / "run", free_port()
    processes = [
        start(i, port, train_arguments(folder, run), tmp_path)
        for i, folder in enumerate([place, tmp_path])
    ]
    for process in processes:
        line = error_of(process)
        assert "are not the same in all processes: those of process 1" in line


def test_a_port_that_is_taken(place, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        arguments = train_arguments(place, tmp_path / "run")
        line = error_of(start(0, port, arguments, tmp_path))
    assert f"127.0.0.1:{port} is taken by another program" in line
    assert "--coordinator HOST:PORT" in line


def run_in_two_processes(arguments, cwd):
    """Run a command in two processes, as SLURM would start it."""
    job = free_job()
    processes = []
    for index in range(2):
        slurm = {
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_JOB_ID": job,
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
        }
        processes.append(
            subprocess.Popen(
                [*COMMAND, *arguments, "--distribution", "data"],
                cwd=cwd,
                env=environment(**slurm),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate() for process in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    return outputs


def test_two_processes_draw_what_one_lacks(place, tmp_path):
    arguments = ["generate", "--model", str(place / "preset")]
    arguments += ["--num-images", "5", "--seed", "3", "--output", "drawn"]
    result = run_command(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    names = ["000000.png", "000002.png", "000004.png"]
    before = [np.asarray(Image.open(tmp_path / "drawn" / n)) for n in names]
    for name in names:
        (tmp_path / "drawn" / name).unlink()
    outputs = run_in_two_processes([*arguments, "--resume"], tmp_path)
    assert "5 images are in drawn" in outputs[0][0] and not outputs[1][0]
    for name, image in zip(names, before, strict=True):
        after = np.asarray(Image.open(tmp_path / "drawn" / name)).astype(int)
        assert np.abs(after - image).max() <= 1


@pytest.mark.large
def test_two_processes_evaluate_as_one(place, tmp_path):
    arguments = ["evaluate", "--model", str(place / "preset")]
    arguments += ["--data", str(place / "images")]
    arguments += ["--metrics", "bits_per_dimension", "--num-images", "5"]
    run_in_two_processes([*arguments, "--output", "two.json"], tmp_path)
    two = json.loads((tmp_path / "two.json").read_text())
    arguments += ["--seed", str(two["settings"]["seed"])]
    result = run_command(*arguments, "--output", "one.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    one = json.loads((tmp_path / "one.json").read_text())
    scores = [report["bits_per_dimension"] for report in (one, two)]
    for split in scores[0]:
        for name, value in scores[0][split].items():
            assert scores[1][split][name] == pytest.approx(value, abs=1e-5)


@pytest.mark.large
def test_two_processes_embed_as_one(t5, tmp_path):
    write_images(tmp_path / "images", 6)
    words = ("a", "a red ship", "two apples", "a cat", "a dog", "no")
    captions = [
        json.dumps({"file_name": f"{index}.png", "text": text})
        for index, text in enumerate(words)
    ]
    (tmp_path / "images" / "metadata.jsonl").write_text("\n".join(captions))
    network = ksd.models.UViTBackbone(
        (8, 8, 1), (8,), (1,), num_heads=2, embedding_dim=16, context_dim=8
    )
    encoder = ksd.text.PretrainedTextEncoder(t5, 8)
    model = ksd.models.TextToImage(network, encoder)
    model.save_to_preset(tmp_path / "preset")
    # Seven texts, with the empty one: the last batch is padded.
    arguments = ["embed", "--data", "images", "--preset", "preset"]
    arguments += ["--batch-size", "4", "--output"]
    outputs = run_in_two_processes([*arguments, "two"], tmp_path)
    assert "7 texts are in two" in outputs[0][0] and not outputs[1][0]
    result = run_command(*arguments, "one", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    one, two = (ksd.data.EmbeddingCache(tmp_path / n) for n in ("one", "two"))
    assert one.texts == two.texts == ["", *sorted(words)]
    for text in one.texts:
        (expected, mask), (found, other) = (c.read(text, 8) for c in (one, two))
        np.testing.assert_array_equal(other, mask)
        # They are rounded to bfloat16.
        np.testing.assert_allclose(found, expected, rtol=2**-7, atol=1e-6)
    assert np.abs(expected).max() > 0.1


@pytest.mark.large
def test_torchrun_continues_a_run(place, tmp_path):
    run = tmp_path / "run"
    programs = pathlib.Path(sys.executable).parent
    for steps in ("4", "8"):
        arguments = ["--steps", steps]
        if not run.exists():
            arguments += ["--data", place / "images"]
            arguments += ["--preset", place / "preset"]
        result = subprocess.run(
            ["bash", SCRIPTS / "torchrun.sh", run, *arguments],
            cwd=tmp_path,
            env=environment(
                PROCESSES="2",
                DISTRIBUTION="sharded",
                PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            ),
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("The run is in") == 1
    check_resumes_as_one_process(place, run, tmp_path)
