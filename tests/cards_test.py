"""Model cards of the shipped presets, and their upload to a local hub."""

import os
import pathlib
import re
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest

import keras_simple_diffusion as ksd
from tests.helpers.hub import local_hub
from tests.helpers.models import make_model

pytestmark = pytest.mark.any_backend

PRESETS = pathlib.Path(ksd.__file__).parent / "presets"
SHIPPED = sorted(path.parent for path in PRESETS.glob("*/model.weights.h5"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_preset_has_a_card(folder):
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.model_name == folder.name
    assert card.data.pipeline_tag in (
        "text-to-image",
        "unconditional-image-generation",
    )
    headings = re.findall("^## (.*)$", card.text, re.MULTILINE)
    assert headings == ["What it can and cannot", "Licence"]
    assert re.search(r"`(benchmarks/\w+\.py|keras-simple-diffusion)", card.text)
    # Each value of the header is one of the page's tables.
    for result in card.data.eval_results:
        assert re.search(rf"\| {result.metric_value}\b", card.text), result
    assert len(card.data.eval_results) >= 2


PROGRAM = """
import sys

import huggingface_hub
import keras_hub
import numpy as np

import keras_simple_diffusion as ksd

folder, images = sys.argv[1:]
huggingface_hub.create_repo("someone/digits", exist_ok=True)
huggingface_hub.upload_file(
    repo_id="someone/digits",
    path_or_fileobj=f"{folder}/README.md",
    path_in_repo="README.md",
)
keras_hub.upload_preset("hf://someone/digits", folder)
model = ksd.models.Preset.open("hf://someone/digits").load()
np.save(images, model.generate(labels=[0, 1], seed=0))
"""


def test_an_uploaded_preset_draws_the_same_images(tmp_path):
    model = make_model()
    folder = tmp_path / "digits"
    model.save_to_preset(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Digits\n")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with local_hub("hf_secret") as hub:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, folder, tmp_path / "images.npy"],
            cwd=pathlib.Path(ksd.__file__).parents[1],
            env={
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "HF_TOKEN": hub.token,
                "HF_HOME": str(tmp_path / "cache"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_XET": "1",
            },
            check=True,
        )
        assert hub.repositories == {"someone/digits": files}
    assert {path.name for path in folder.iterdir()} == set(files)
    images = model.generate(labels=[0, 1], seed=0)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), images)
