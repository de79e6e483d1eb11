"""Evaluation of a model, or of images, against real images."""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import math
import numbers
import pathlib
import tempfile

from keras_simple_diffusion import samplers
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.backend.native import backend_name
from keras_simple_diffusion.backend.native import device_name
from keras_simple_diffusion.data.sources import ImageSource
from keras_simple_diffusion.distribution.batches import num_batch_parts
from keras_simple_diffusion.distribution.processes import entered_by_main
from keras_simple_diffusion.distribution.processes import is_main_process
from keras_simple_diffusion.distribution.processes import seed_of_main
from keras_simple_diffusion.evaluation import duration
from keras_simple_diffusion.evaluation import image_sets
from keras_simple_diffusion.evaluation import scores
from keras_simple_diffusion.evaluation.conditioning import problem_of
from keras_simple_diffusion.evaluation.measurement import Measurement
from keras_simple_diffusion.evaluation.report import Report
from keras_simple_diffusion.generation.arguments import SamplingOptions
from keras_simple_diffusion.models.text_to_image import TextToImage
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import begin_or_resume
from keras_simple_diffusion.utils.files import check_is_free
from keras_simple_diffusion.utils.files import held_folder

# Arguments that published figures were measured with.
PROTOCOLS = {
    "simple_diffusion": {
        "metrics": ("fid", "inception_score"),
        "num_images": 50_000,
        "resize": "original",
        "sampler": "ddpm",
        "num_steps": 512,
        "guidance_scale": 1.0,
    },
}


def evaluate(
    model,
    data,
    metrics=None,
    num_images=None,
    feature_weights=None,
    resize="original",
    efficientnet=None,
    dinov2=None,
    clip=None,
    classifier=None,
    num_steps=None,
    guidance_scale=None,
    guidance_interval=None,
    sampler=None,
    num_resamples=20,
    seed=0,
    batch_size=64,
    output=None,
    resume=False,
):
    """Measure generated images against real ones.

    A model with classes draws the same number of images for each class. A
    text-to-image model draws the captions of the split `"test"`, or of the
    last split if none has this name. Real images are cropped and resized to
    the size of the generated ones. Metrics do not depend on `batch_size`,
    apart from rounding in the drawing of images.

    Args:
        model: a `DiffusionModel` or `TextToImage`; the name or folder of a
            preset or run; or images that exist already, as a folder, a zip, an
            `ImageSource` or a `uint8` array of shape `(N, H, W, C)`. Stored
            images must all have one size.
        data: real images: a name for `keras_simple_diffusion.data.open_data`,
            of which the splits `"train"` and `"test"` are taken; an
            `ImageSource` or a `uint8` array, taken as `"test"`; or a dict
            whose keys are the names of splits, and whose values are
            `ImageSource`s or arrays.
        metrics: list of names, of `keras_simple_diffusion.evaluation.METRICS`:
            `"fid"`, `"fid_infinity"`, `"kid"`, `"precision_recall"`,
            `"density_coverage"` and `"inception_score"` with Inception,
            `"fd_efficientnet"` with EfficientNet-Lite0, `"fd_dinov2"` with
            DINOv2, `"clip_score"` with CLIP, `"class_accuracy"` with a
            classifier, and `"bits_per_dimension"` with the model itself.
            `"nearest"` finds nearest training images, and `"conditioning"`
            compares with labels or prompts, in the features of EfficientNet
            if it is given, otherwise of Inception. Defaults to `"fid"`,
            `"kid"`, `"precision_recall"`, `"nearest"`, `"conditioning"` if
            model and data have classes or text, and the metric of each network
            that is given.
        num_images: int. Number of images to draw, or to choose from stored
            ones, and the largest number of real images of each split for
            `"bits_per_dimension"`. Defaults to `10_000`, on a CPU to what it
            draws in about 15 minutes; and to all stored and real ones.
        feature_weights: path of Inception's weights, or an `InceptionFeatures`
            for several evaluations. Defaults to the published ones, downloaded
            once.
        resize: string. Resizing to Inception's 299 pixels, `"original"` or
            `"pytorch"`; see `InceptionFeatures`. Defaults to `"original"`.
        efficientnet: path of the weights of EfficientNet-Lite0, or an
            `EfficientNetFeatures`. Required for `"fd_efficientnet"`.
        dinov2: preset of DINOv2, or a `DINOFeatures`. Defaults to
            `"dinov2_large"`.
        clip: preset of CLIP, or a `CLIPFeatures`. Defaults to
            `"clip_vit_base_patch32"`.
        classifier: path of a `.keras` file, or a `ClassifierOutputs`. Required
            for `"class_accuracy"`.
        num_steps: int, or a list of ints. Sampling steps. Defaults to the
            model's.
        guidance_scale: float, or a list of floats; 1 is no guidance. Defaults
            to the model's.
        guidance_interval: pair of log-SNRs between which there is guidance.
            Defaults to all.
        sampler: a `keras_simple_diffusion.samplers.Sampler` or its name, such
            as `"ddim"`. Defaults to the model's.
        num_resamples: int. Bootstrap resamples for the interval of a Fréchet
            distance; `0` leaves it out. Defaults to `20`.
        seed: int, or `None` for a random one. Image `i` depends on the seed
            and `i`. Defaults to `0`.
        batch_size: int. Images drawn at once. Defaults to `64`.
        output: path of a `.json` file for the report. A card in Markdown, a
            plot and a sheet of the nearest training images go beside it, and
            the features to a folder `OUTPUT.features`, to resume. Defaults to
            no files.
        resume: bool. Whether to continue an interrupted evaluation with the
            same arguments and `output`. Defaults to `False`.

    Returns:
        A `Report`: a mapping from names such as `"fid_test"` to scores, which
        prints as a table.

    Raises:
        InputError: if arguments, model and data do not suit each other, if
            `output` was begun with others or is in use by another process, or
            if the model's weights are not finite.

    Example:
    ```python
    # The folder photos/ contains the folders train/ and test/.
    report = keras_simple_diffusion.evaluation.evaluate(
        "runs/photos", "photos/", num_images=1000, guidance_scale=[1.0, 2.0])
    print(report)
    report.results[0]["fid_test"]
    ```
    """
    if output is not None and pathlib.Path(output).suffix != ".json":
        raise InputError(
            f"`output` must be a .json file. Received: output={output}"
        )
    if resume and output is None:
        raise InputError("`resume` needs the `output` of the evaluation.")
    if output is None and native.num_processes() > 1:
        raise InputError(
            "Several processes share the features in a folder beside "
            "`output`. Received: output=None"
        )
    if num_images is not None and num_images < 4:
        raise InputError(
            f"`num_images` must be at least 4. Received: {num_images}"
        )
    steps = _as_list("num_steps", num_steps, _is_steps)
    scales = _as_list("guidance_scale", guidance_scale, _is_scale)
    sampler = samplers.get(sampler)
    choices = {
        "inception": feature_weights,
        "efficientnet": efficientnet,
        "dinov2": dinov2,
        "clip": clip,
        "classifier": classifier,
    }
    is_default = metrics is None
    metrics = scores.default_metrics(choices) if is_default else metrics
    scores.check_metrics(metrics)
    metrics = list(metrics)
    scores.check_choices(metrics, choices)

    if output is not None:
        check_is_free(pathlib.Path(output).with_suffix(".features"))

    # Open both sides, and check that the metrics suit them.
    subject = image_sets.open_subject(model)
    is_stored = isinstance(subject, ImageSource)
    shape = subject.image_shape if is_stored else subject.backbone.image_shape
    sources = image_sets.open_references(data, shape)
    if is_default and (is_stored or problem_of(subject, sources)):
        metrics.remove("conditioning")
    if is_stored:
        _check_stored(metrics, steps, scales, guidance_interval, sampler)
        drawing = {"sha256": subject.content_digest()}
    else:
        _check_model(subject, metrics, sources)
        drawing = image_sets.drawing_facts(subject, model)
    networks = scores.load_networks(metrics, choices, resize)

    with contextlib.ExitStack() as stack:
        if output is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        else:
            folder = pathlib.Path(output).with_suffix(".features")
        settings = begin_or_resume(
            folder,
            {
                "model": _name_of(model),
                "data": _name_of(data),
                "protocol": _protocol_of(
                    metrics, num_images, resize, sampler, steps, scales
                ),
                "metrics": metrics,
                "num_images": num_images,
                "num_real_images": num_images,
                "resize": resize,
                "steps": steps,
                "guidance": scales,
                "guidance_interval": guidance_interval,
                "sampler": sampler and repr(sampler),
                "batch_size": batch_size,
                "num_resamples": num_resamples,
                "seed": seed,
                "networks": {name: networks[name].name for name in networks},
                "model_content": drawing["sha256"],
                "data_content": {
                    split: source.content_digest()
                    for split, source in sources.items()
                },
                "versions": _versions(),
            },
            resume,
        )
        seed = settings["seed"] = seed_of_main(settings["seed"])
        if is_stored:
            sets = [image_sets.StoredImages(subject, num_images, seed)]
        else:
            training, held_out = image_sets.split_roles(sources)
            captions = sources[held_out or training].captions()
            options = SamplingOptions(
                seed=seed,
                batch_size=batch_size,
                sampler=sampler,
                guidance_interval=guidance_interval,
            )

            def draw_sets(count):
                requests = image_sets.Requests.of(subject, count, captions)
                return [
                    image_sets.DrawnImages(
                        subject,
                        requests,
                        dataclasses.replace(
                            options, num_steps=each, guidance_scale=scale
                        ),
                        drawing,
                    )
                    for each, scale in itertools.product(steps, scales)
                ]

            sets = draw_sets(settings["num_images"] or batch_size)
            if networks and not (resume and settings["num_images"]):
                settings["num_images"] = _plan(sets, settings, batch_size)
                sets = draw_sets(settings["num_images"])
        held = held_folder(folder, settings, resume)
        stack.enter_context(entered_by_main(held))
        measure = Measurement(
            folder, settings, networks, sources, data, subject
        )
        content = {
            "settings": settings,
            "image_shape": list(shape),
            "references": {s: len(source) for s, source in sources.items()},
            "results": [measure.images(each) for each in sets if networks],
            "device": device_name(),
        }
        if "bits_per_dimension" in metrics:
            content["bits_per_dimension"] = {
                split: measure.likelihood(subject, split) for split in sources
            }
        report = Report(content)
        if output is not None and "nearest" in metrics:
            for each, result in zip(sets, content["results"], strict=True):
                name = f"{each.name}." if len(sets) > 1 else ""
                path = pathlib.Path(output).with_suffix(f".{name}nearest.png")
                measure.draw_nearest(each, result, path)
        if output is not None and is_main_process():
            report.save(output)
    return report


def _plan(sets, settings, batch_size):
    """Choose the number of images, and say how long they take to draw.

    Args:
        sets: list of `DrawnImages`.
        settings: dict, the settings of the evaluation.
        batch_size: int.

    Returns:
        The number of images, an int.
    """
    first = sets[0]
    batch = list(range(min(batch_size, len(first))))
    seconds = None
    if num_batch_parts() == 1:
        seconds = duration.measure_drawing(lambda: first.read(batch))
    # The others take longer by their steps.
    ratio = sum(s.facts["steps"] for s in sets) / first.facts["steps"]
    is_chosen = settings["num_images"] is None
    count = settings["num_images"]
    if is_chosen:
        count = duration.fit_count(seconds, 1.0 / ratio)
    if seconds is not None and is_main_process():
        duration.announce(count, count * ratio * seconds, is_chosen)
    return count


_EXPECTED = {
    "num_steps": "an integer of at least 1, or a list of such",
    "guidance_scale": "a finite number, or a list of such",
}


def _as_list(name, values, is_valid):
    """Check a number, several or `None`, and return a list."""
    if values is None:
        return [None]
    if not isinstance(values, list | tuple):
        values = [values]
    if not values or not all(map(is_valid, values)):
        raise InputError(
            f"`{name}` must be {_EXPECTED[name]}. Received: {name}={values}"
        )
    return list(values)


def _is_steps(value):
    return isinstance(value, numbers.Integral) and value >= 1


def _is_scale(value):
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _check_stored(metrics, steps, scales, guidance_interval, sampler):
    """Raise an `InputError` if metrics or options need a model."""
    options = (*steps, *scales, guidance_interval, sampler)
    if any(option is not None for option in options):
        raise InputError(
            "Sampling options (steps, guidance, guidance interval, sampler, "
            "protocol) cannot be used when `model` is a set of images. Remove "
            "them."
        )
    for name in (
        "class_accuracy",
        "clip_score",
        "bits_per_dimension",
        "conditioning",
    ):
        if name in metrics:
            raise InputError(
                f"`{name}` needs a model, and `model` is a set of images. "
                "Remove it from the metrics."
            )


def _check_model(task, metrics, sources):
    """Raise an `InputError` if metrics do not suit a model and the data."""
    is_of_text = isinstance(task, TextToImage)
    num_classes = task.backbone.num_classes
    if getattr(task.backbone, "portrait_flag", False):
        raise InputError(
            "Models with `portrait_flag=True` cannot be evaluated yet."
        )
    if "class_accuracy" in metrics and num_classes is None:
        raise InputError(
            "`class_accuracy` needs a model with classes. Remove it from the "
            "metrics."
        )
    has_words = is_of_text or (num_classes is not None and task.class_names)
    if "clip_score" in metrics and not has_words:
        raise InputError(
            "`clip_score` needs a text-to-image model, or class names. Remove "
            "it from the metrics."
        )
    problem = problem_of(task, sources)
    if "conditioning" in metrics and problem:
        raise InputError(f"{problem} Remove it from the metrics.")
    if "bits_per_dimension" not in metrics:
        return
    if is_of_text:
        raise InputError(
            "`bits_per_dimension` needs a model without text. Remove it from "
            "the metrics."
        )
    if num_classes is None:
        return
    for split, source in sources.items():
        names = source.class_names
        if names is None or names != (task.class_names or names):
            raise InputError(
                "`bits_per_dimension` of a model with classes needs images "
                f"of the same classes. The model has {task.class_names}; the "
                f"{split} images have {names}."
            )


def _name_of(value):
    """Describe `model` or `data` in a few words, for the report."""
    if isinstance(value, str | pathlib.Path):
        return str(value)
    return f"{type(value).__name__} in memory"


def _protocol_of(metrics, num_images, resize, sampler, steps, scales):
    """Return the name of the protocol that the arguments follow, or `None`."""
    for name, protocol in PROTOCOLS.items():
        expected = (
            list(protocol["metrics"]),
            protocol["num_images"],
            protocol["resize"],
            samplers.get(protocol["sampler"]),
            [protocol["num_steps"]],
            [protocol["guidance_scale"]],
        )
        if (metrics, num_images, resize, sampler, steps, scales) == expected:
            return name
    return None


def _versions():
    names = ("keras-simple-diffusion", "keras", backend_name(), "numpy")
    return {name: importlib.metadata.version(name) for name in names}
