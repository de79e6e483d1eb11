"""The page, in a real server: drawn on by clients of Gradio."""

import base64
import concurrent.futures
import io
import json
import re
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from keras_simple_diffusion.app.actions import Actions
from keras_simple_diffusion.app.drawing import Studio
from keras_simple_diffusion.app.runs import Runs
from keras_simple_diffusion.app.server import served
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.image_files import read_settings
from tests.helpers.models import make_model
from tests.helpers.models import randomize

pytest.importorskip("gradio", reason='needs pip install -e ".[app]"')
gradio_client = pytest.importorskip("gradio_client")

# Gradio leaves loops and sockets to the collector.
pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore"),
]

NAMES = ["ship", "cat", "house"]
# The controls: classes, prompts, count, seed, steps, guidance, low, high,
# sampler, number of the first image.
CONTROLS = [[], "", "", 2, 5, 8, 1.5, None, None, "", 0]


def controls(**changes):
    names = (
        "classes prompt negative count seed steps guidance low high sampler "
        "first"
    ).split()
    assert set(changes) <= set(names)
    return [
        changes.get(name, value)
        for name, value in zip(names, CONTROLS, strict=True)
    ]


@pytest.fixture(scope="module")
def model():
    model = make_model(
        class_names=NAMES, num_steps=8, backbone={"image_shape": (8, 8, 3)}
    )
    randomize(model.backbone)
    return model


@pytest.fixture(scope="module")
def page(model):
    with served(model, "tiny", at_once=2) as page:
        yield page


def connect(page):
    # On a busy machine the five seconds of httpx are not enough.
    patient = {"timeout": 300}
    return gradio_client.Client(
        page.local_url, verbose=False, httpx_kwargs=patient
    )


def images_of(markup):
    """Decode the images in HTML of the page."""
    urls = re.findall(r'src="data:image/png;base64,([^"]*)"', markup)
    files = (io.BytesIO(base64.b64decode(url)) for url in urls)
    return [np.asarray(Image.open(file)) for file in files]


def draw(client, *arguments, api_name="/draw"):
    """Draw, and return the HTML at each step and the result."""
    job = client.submit(*arguments, api_name=api_name)
    result = job.result(timeout=300)
    return [output[0] for output in job.outputs()], result


def test_images_appear_while_they_are_denoised(page, model):
    steps = []
    expected = model.generate(
        labels=[2, 0],
        num_steps=8,
        seed=5,
        guidance_scale=1.5,
        on_step_end=lambda step: steps.append(step.images),
    )
    client = connect(page)
    shown, (markup, gallery) = draw(client, *controls(classes=[2, 0]))
    np.testing.assert_array_equal(images_of(markup), expected)
    middle = [images_of(each) for each in shown[:-1] if "step " in each]
    assert len(middle) >= 3
    for each in middle:
        assert any(np.array_equal(each, step) for step in steps)
    # The files hold their settings.
    assert [each["caption"] for each in gallery] == ["house", "ship"]
    settings = read_settings(gallery[1]["image"])
    assert (settings["seed"], settings["number"]) == (5, 1)
    assert np.array_equal(Image.open(gallery[1]["image"]), expected[1])


def test_a_cancelled_drawing_makes_room_for_the_next(page):
    client = connect(page)
    job = client.submit(*controls(steps=512), api_name="/draw")
    next(iter(job))
    job.cancel()
    _, (markup, gallery) = draw(client, *controls(seed=6))
    assert len(images_of(markup)) == len(gallery) == 2


@pytest.mark.parametrize("visitors", [8])
def test_visitors_get_their_own_images(page, model, visitors):
    def visit(seed):
        client = connect(page)
        changes = {"seed": seed, "classes": [seed % 3], "steps": 3 + seed % 2}
        _, (markup, gallery) = draw(client, *controls(**changes))
        return images_of(markup), len(gallery)

    with concurrent.futures.ThreadPoolExecutor(visitors) as pool:
        results = list(pool.map(visit, range(visitors)))
    for seed, (images, count) in enumerate(results):
        expected = model.generate(
            labels=[seed % 3] * 2,
            seed=seed,
            num_steps=3 + seed % 2,
            guidance_scale=1.5,
        )
        np.testing.assert_array_equal(images, expected)
        assert count == 2


def test_edits(page, model, tmp_path):
    client = connect(page)
    path = tmp_path / "upload.png"
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(8, 8, 3), dtype="uint8")
    Image.fromarray(image).save(path)
    client.predict(gradio_client.handle_file(path), api_name="/upload")
    layer = np.zeros((320, 320, 4), "uint8")
    layer[:160, :, 3] = 255
    Image.fromarray(layer).save(tmp_path / "layer.png")
    painted = {
        "background": gradio_client.handle_file(path),
        "layers": [gradio_client.handle_file(tmp_path / "layer.png")],
        "composite": None,
    }
    _, (markup, _) = draw(client, painted, *controls(), api_name="/inpaint")
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    options = {"num_steps": 8, "seed": 5, "guidance_scale": 1.5}
    images, labels = np.stack([image] * 2), [0, 1]
    expected = model.inpaint(images, mask, labels, **options)
    np.testing.assert_array_equal(images_of(markup), expected)
    _, (markup, _) = draw(client, 0.5, *controls(), api_name="/vary")
    expected = model.edit(images, labels, 0.5, **options)
    np.testing.assert_array_equal(images_of(markup), expected)
    _, (markup, _) = draw(client, 2, *controls(), api_name="/upscale")
    assert len(images_of(markup)) == 2
    _, (markup, gallery) = draw(
        client, True, 1, 2, *controls(count=3), api_name="/interpolate"
    )
    assert len(images_of(markup)) == 3 and "ksd-strip" in markup
    assert len(gallery) == 9
    shown, schedule = client.predict(0.4, *controls(), api_name="/look")
    assert len(images_of(shown)) == 3 and "<svg" in schedule


def test_the_latest_image_is_looked_into(model, tmp_path):
    gr = pytest.importorskip("gradio")
    actions = Actions(gr, Studio(model, "tiny", tmp_path), Runs())
    *_, (_, _, drawn) = actions.draw([], *controls(seed=3))
    chosen, latest, *_ = actions.select(drawn, 1)
    shown, _ = actions.look(0.1, latest, *controls())
    np.testing.assert_array_equal(images_of(shown)[0], chosen.image)
    image = np.zeros((8, 8, 3), "uint8")
    Image.fromarray(image).save(tmp_path / "upload.png")
    _, latest, _ = actions.upload(tmp_path / "upload.png")
    shown, _ = actions.look(0.1, latest, *controls())
    np.testing.assert_array_equal(images_of(shown)[0], image)
    _, taken, *_ = actions.take(chosen)
    shown, _ = actions.look(0.1, taken, *controls())
    np.testing.assert_array_equal(images_of(shown)[0], chosen.image)
    # Its settings are those of the boxes, which are empty or a number.
    again = actions.again(chosen)
    assert again == controls(count=1, seed=3, low="", high="", first=1)
    with pytest.raises(InputError, match="Select one of the drawn"):
        actions.again(None)


def test_no_box_of_numbers_begins_empty(page):
    """Gradio's page would put a 0 there, the seed of each drawing."""
    gr = pytest.importorskip("gradio")
    boxes = [b for b in page.blocks.values() if isinstance(b, gr.Number)]
    assert boxes
    assert all(box.value is not None for box in boxes)


def test_mistakes_are_messages(page, tmp_path):
    client = connect(page)
    for changes, message in (
        ({"seed": "x"}, "The seed is a whole number, or empty. Received: 'x'"),
        ({"seed": 1.5}, "The seed is a whole number"),
        ({"seed": "9" * 5000}, "whole number, or empty"),
        ({"low": "inf"}, "The lowest log-SNR that is guided is a number"),
        ({"steps": -1}, "minimum value 1"),
        ({"first": -1}, "first"),
        ({"seed": -1}, "seed"),
        ({"low": 3, "high": 2}, "guidance_interval"),
    ):
        with pytest.raises(Exception, match=message):
            draw(client, *controls(**changes))
    with pytest.raises(Exception, match="upload an image first"):
        draw(client, 0.5, *controls(), api_name="/vary")
    path = tmp_path / "bad.png"
    path.write_bytes(b"no image")
    with pytest.raises(Exception, match="not a readable image"):
        client.predict(gradio_client.handle_file(path), api_name="/upload")
    painted = {
        "background": None,
        "layers": [gradio_client.handle_file(path)],
        "composite": None,
    }
    with pytest.raises(Exception, match="image: it is no image$"):
        draw(client, painted, *controls(), api_name="/inpaint")
    # The app lives.
    assert len(images_of(draw(client, *controls())[1][0])) == 2


def fetch(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def call(url, data):
    """Call a function of the page as any program can, and read the events."""
    body = json.dumps({"data": data}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as answer:
        return answer.read().decode()


def test_nothing_is_kept_but_uploads(page):
    gr = pytest.importorskip("gradio")
    (editor,) = (
        block
        for block in page.blocks.values()
        if isinstance(block, gr.ImageEditor)
    )
    body = {"component_id": editor._id, "fn_name": "accept_blobs"}
    body |= {"session_hash": "any", "data": {}}
    request = urllib.request.Request(
        f"{page.local_url}gradio_api/component_server",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    assert fetch(request) == 404


def test_no_file_of_the_machine_can_be_reached(page, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    for path in (secret, "/etc/passwd", __file__):
        quoted = urllib.parse.quote(str(path))
        url = f"{page.local_url}gradio_api/file={quoted}"
        assert fetch(url) in (403, 404)
    # Nor named in place of an upload.
    payload = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    url = f"{page.local_url}gradio_api/call/"
    assert "event: complete" not in call(f"{url}upload", [payload])
    assert "event: complete" in call(f"{url}list_runs", [])
    assert page.local_url.startswith("http://127.0.0.1:")
    assert not page.share
