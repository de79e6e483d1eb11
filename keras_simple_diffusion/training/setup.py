"""From a preset and the settings of a run to its images and its model."""

import json
import platform
import warnings

import keras

from keras_simple_diffusion import schedules
from keras_simple_diffusion.backend.native import backend_name
from keras_simple_diffusion.data.buckets import bucket_sizes
from keras_simple_diffusion.data.buckets import put_into_buckets
from keras_simple_diffusion.data.embedding_cache import EmbeddingCache
from keras_simple_diffusion.data.encoded_source import EncodedSource
from keras_simple_diffusion.data.loading import open_data
from keras_simple_diffusion.data.loading import open_splits
from keras_simple_diffusion.data.pipeline import training_batches
from keras_simple_diffusion.data.sources import EmbeddedSource
from keras_simple_diffusion.data.sources import keep_decoded
from keras_simple_diffusion.data.sources import stack
from keras_simple_diffusion.data.sources import take
from keras_simple_diffusion.distribution.batches import check_batch_size
from keras_simple_diffusion.distribution.batches import data_shard
from keras_simple_diffusion.distribution.batches import own_share
from keras_simple_diffusion.evaluation.quick_frechet import QuickFrechet
from keras_simple_diffusion.evaluation.shards import reference_features
from keras_simple_diffusion.metrics.inception import InceptionFeatures
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.models.transfer import LABELS
from keras_simple_diffusion.models.transfer import copy_weights
from keras_simple_diffusion.models.transfer import match_classes
from keras_simple_diffusion.models.transfer import plan_transfer
from keras_simple_diffusion.text.text_transformer import TextTransformer
from keras_simple_diffusion.training import captions
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import sha256
from keras_simple_diffusion.utils.memory import check_memory
from keras_simple_diffusion.utils.user_text import some_of
from keras_simple_diffusion.version import __version__

_NUM_VALIDATION = 512
# Scale of the guidance away from the start, chosen on the faces of the race.
_GUIDANCE = 2.0
# Arrays of the size of the images that a training step holds at least: images,
# noise, their mixture, target, prediction and the gradient of the prediction.
_ARRAYS_PER_STEP = 6


class RunImages:
    """The images of a run: batches to train on, arrays to validate with.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
        settings: `RunSettings`.
        adapt: function of the `ImageSource` of each split that returns the one
            to use. Defaults to `None`, the source as it is.

    Attributes:
        source: an `ImageSource`, the images to train on.
        cache: an `EmbeddingCache` of their captions, or `None`.
        validation: dict of arrays for `fit`, this process's share of the
            held-out images; `None` if the data has too few or none.
        validation_size: int. Batch size of `validation`.
        prompts: list of strings for samples, `None` for a model of classes.
        sizes: dict from the height and width of each bucket, as text, to its
            number of images; `None` without buckets.
    """

    def __init__(self, preset, settings, adapt=None):
        self._made_of = preset, adapt
        self.settings = settings
        recipe = settings.recipe
        self.batch_size = recipe.batch_size // recipe.accumulate
        check_batch_size(self.batch_size)
        height, width = settings.image_size
        channels = preset.backbone_config["image_shape"][2]
        check_memory(
            f"Training steps with {self.batch_size} images of {height} x "
            f"{width}",
            _ARRAYS_PER_STEP * self.batch_size * height * width * channels * 4,
        )
        self.cache = None
        self._keys = ("images", "labels")
        if settings.embeddings is not None:
            captions.check_has_pretrained_encoder(preset)
            self.cache = EmbeddingCache(settings.embeddings)
        if preset.takes_text:
            self._keys = ("images", "captions", "portrait")
            if self.cache is not None:
                self._keys = ("images", "context", "context_mask", "portrait")
        sources = open_splits(
            settings.data,
            tuple(settings.image_size),
            preset.backbone_config["image_shape"][2],
            settings.crop,
            preset.backbone_config.get("portrait_flag", False),
        )
        if "train" not in sources:
            raise InputError(
                f"'{settings.data}' has no split to train on, only a held-out "
                "one. Expected a folder `train` beside it."
            )
        _warn_of_lost_colors(preset, sources["train"])
        self.sizes = None
        if settings.aspect_buckets is not None:
            # Held-out images have the one size of the network.
            sources["train"] = _put_into_buckets(
                sources["train"], preset, settings
            )
            self.sizes = sources["train"].counts()
        if adapt is not None:
            sources = {split: adapt(each) for split, each in sources.items()}
        if preset.takes_text:
            for source in sources.values():
                captions.check_captions(source.has_captions)
        if self.cache is not None:
            length = self.cache.encoder["sequence_length"]
            sources = {
                split: EmbeddedSource(source, self.cache, length)
                for split, source in sources.items()
            }
        self.source = sources["train"]
        self.prompts = None
        if preset.takes_text:
            self.prompts = captions.choose_prompts(self.source.captions())
        # Worker processes would each keep all decoded images.
        self._examples = self.source
        if not settings.workers:
            self._examples = keep_decoded(self.source)
        self.validation = self.validation_size = None
        self._held_out = sources.get("test")
        if self._held_out is None:
            return
        # Ten validations take less than a tenth of the time of the training.
        count = recipe.steps * recipe.batch_size // 50
        count = min(max(count, recipe.batch_size), _NUM_VALIDATION)
        held_out = take(self._held_out, count)
        examples = [held_out[index] for index in range(len(held_out))]
        share, self.validation_size = own_share(
            stack(examples, self._keys), self.batch_size
        )
        # Fewer images than devices cannot be split.
        self.validation = share if len(share["images"]) else None

    def with_settings(self, settings):
        """Open the same images for the same run with other settings."""
        preset, adapt = self._made_of
        return RunImages(preset, settings, adapt)

    def batches(self, first):
        """Return this process's share of all batches from number `first` on."""
        index, count = data_shard()
        return self._batches(first, index, count, self.settings.workers)

    def read_batch(self, number):
        """Return one whole batch as a dict of arrays."""
        return next(iter(self._batches(number, 0, 1, 0)))

    def facts(self):
        """Return digests of all that the run reads, a dict of JSON types."""
        cache = self.cache
        return {
            "num_images": len(self.source),
            "fingerprint": self.source.fingerprint,
            "held_out": self._held_out and self._held_out.fingerprint,
            "embeddings": cache
            and sha256(json.dumps(cache.encoder), *cache.texts),
            **({} if self.sizes is None else {"sizes": self.sizes}),
        }

    def check_unchanged(self, run):
        """Check that the images are those of the start.

        Other held-out images cause a warning: they change the reports of the
        run, not its weights.

        Args:
            run: path of the run's folder.

        Raises:
            InputError: if the images to train on, or the embeddings of their
                captions, have changed.
        """
        begun, now = self.settings.facts, self.facts()
        start = (
            f"or start a new run from this one's weights: train "
            f"--initialize-from {run} --data {self.settings.data}"
        )
        if begun["fingerprint"] != now["fingerprint"]:
            raise InputError(
                f"The images of '{self.settings.data}' have changed since "
                f"the run began: {begun['num_images']} then, "
                f"{now['num_images']} now. Restore the old ones, {start}"
            )
        if begun.get("embeddings") != now["embeddings"]:
            raise InputError(
                f"The embeddings in '{self.settings.embeddings}' have changed "
                f"since the run began. Restore the old ones, {start}"
            )
        if begun.get("held_out") != now["held_out"]:
            warnings.warn(
                f"The held-out images of '{self.settings.data}' have changed "
                "since the run began: the held-out loss is that of other "
                "images from here on.",
                stacklevel=2,
            )

    def _batches(self, first, index, count, num_workers):
        return training_batches(
            self._examples,
            self.batch_size,
            self.settings.seed,
            self.settings.recipe.flip,
            start_step=first,
            process_index=index,
            process_count=count,
            num_workers=num_workers,
            keys=self._keys,
        )


def _warn_of_lost_colors(preset, source):
    is_file = isinstance(source, EncodedSource)
    if is_file and source.image_shape[2] == 1 and source.has_color():
        warnings.warn(
            f"The images are stored in color and become gray, since the "
            f"network of '{preset.name}' has one channel. Presets such as "
            "uvit_small_64 train in color.",
            stacklevel=2,
        )


def _put_into_buckets(source, preset, settings):
    size = tuple(settings.image_size)
    divisor = preset.backbone_class.side_divisor(preset.backbone_config)
    if divisor is None:
        raise InputError(
            f"The network of '{preset.name}' takes images of one size. Leave "
            "out `aspect_buckets`, or use one of this library's networks."
        )
    sizes = bucket_sizes(size, divisor, settings.aspect_buckets)
    return put_into_buckets(source, sizes)


def build_model(preset, images, settings):
    """Build a new model of a preset's configuration for the images of a run.

    Image size, classes and captions are those of the images; settings that
    are `None` are the preset's.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
        images: `RunImages`.
        settings: `RunSettings`.

    Returns:
        A `DiffusionModel` or `TextToImage`, not yet compiled for training.
    """
    source = images.source
    network = {"image_shape": source.image_shape, "num_classes": None}
    network["dtype"] = settings.dtype or preset.backbone_config.get("dtype")
    task = {}
    if preset.takes_text:
        encoder = captions.make_text_encoder(preset, source.captions())
        prepare_encoder(encoder, images, settings)
        task["text_encoder"] = encoder
    elif source.class_names is None:
        task |= {"class_names": None, "guidance_scale": 1.0}
    else:
        task["class_names"] = source.class_names
        network["num_classes"] = len(source.class_names)
    if settings.facts and "guidance_model" in preset.task_config:
        # The run goes on, and has begun with it.
        task |= preset.guide(dtype=network["dtype"])
        task["guidance_scale"] = preset.task_config["guidance_scale"]
    if settings.rematerialize is not None:
        network["rematerialize"] = settings.rematerialize
    if settings.stratified is not None:
        task["stratified"] = settings.stratified
    size = min(source.image_shape[:2])
    schedule = preset.part("schedule")
    if settings.schedule is not None:
        task["schedule"] = schedules.get(settings.schedule, image_size=size)
    elif schedule is not None:
        task["schedule"] = schedule.for_image_size(size)
    backbone = preset.load_backbone(load_weights=False, **network)
    return preset.load(load_weights=False, backbone=backbone, **task)


def prepare_encoder(encoder, images, settings):
    """Let a text encoder use the stored embeddings of a run, if it has any.

    Args:
        encoder: a `TextEncoder`.
        images: `RunImages`.
        settings: `RunSettings`.
    """
    if images.cache is not None:
        captions.use_embeddings(images.cache, encoder)
        if settings.samples_every:  # Prompts are embedded while training.
            encoder.load()


def check_is_no_student(preset):
    """Raise an `InputError` for the preset of a student of few steps.

    Training by the loss of diffusion would undo its distillation.

    Args:
        preset: a `keras_simple_diffusion.models.Preset`.
    """
    steps = preset.task_config.get("distilled_steps")
    if steps is not None:
        teacher = preset.metadata.get("teacher")
        teacher = f", '{teacher}'," if teacher else ""
        raise InputError(
            f"'{preset.name}' is a student, for {steps} steps. Use the model "
            f"that it was distilled from{teacher} and `distill` the result."
        )


def open_start(preset):
    """Open a preset to start from; raise an `InputError` without weights."""
    preset = Preset.open(preset)
    if not preset.has_weights:
        raise InputError(
            f"The preset '{preset.name}' is a configuration without weights: "
            "there is nothing to start from. Leave out `initialize_from`."
        )
    return preset


def initialize(model, preset):
    """Give a new model the weights of a trained one.

    Args:
        model: a `DiffusionModel` or `TextToImage`.
        preset: string, path or `Preset` of the trained one.

    Returns:
        A text that says what is known from there, and what is not.
    """
    preset = open_start(preset)
    source = preset.load()
    weak = _choose_guide(source, model)
    transfer = copy_weights(source, model)
    told = [f"starting from the weights of '{preset.name}': {transfer.text}"]
    if transfer.fresh:
        told.append(f"new: {transfer.names}")
    if weak is not None:
        # The start's own scale was chosen for the guide that it has.
        model.guidance_scale, start = _GUIDANCE, "that start"
        if weak is not source:
            model.guidance_scale = source.guidance_scale
            start = f"the start of '{preset.name}'"
        told.append(
            f"images are guided away from {start} by {model.guidance_scale:g}; "
            "--guidance 1 of `generate` halves the cost"
        )
    known = match_classes(source, model)
    if known:
        names = some_of([model.class_names[number] for number in known])
        told.append(f"classes that are known there: {names}")
    ours = getattr(model, "text_encoder", None)
    theirs = getattr(source, "text_encoder", None)
    # A pretrained encoder already has its weights.
    if isinstance(ours, TextTransformer):
        told.append(_copy_encoder(theirs, ours))
    return "\n  ".join(told)


def _choose_guide(source, model):
    """Guide a new model away from its start, or from the start of that one.

    A start that was finetuned itself hands on its guide: a model that has been
    trained for a little longer hardly differs from it. The weights of the new
    model are afterwards those of the guide, to be replaced by the start's.

    Returns:
        The model of which the guide is a copy, or `None`.
    """
    candidates = [source.guidance_model]
    # One that was always trained with classes has no prediction without.
    if source.backbone.num_classes is None or source.label_dropout > 0:
        candidates.append(source)
    for weak in candidates:
        if weak is not None and _can_guide(weak, model):
            copy_weights(weak, model)
            model.guidance_model = model  # A copy.
            return weak
    return None


def _can_guide(weak, model):
    """Test if the prediction of a model without a class can guide another.

    A student of few steps has none at the other noise levels.
    """
    if (
        weak.backbone.context_dim is not None
        or weak.distilled_steps is not None
    ):
        return False
    if model.backbone.context_dim is not None:
        return False
    if weak.prediction_type != model.prediction_type:
        return False
    try:
        transfer = plan_transfer(weak, model)
    except InputError:  # Another network.
        return False
    # All but the vectors of new classes must be as in the guide.
    return set(transfer.fresh) <= {LABELS} and not transfer.unused


def _copy_encoder(theirs, ours):
    if not isinstance(theirs, TextTransformer) or theirs.vocabulary is None:
        return "no words are known there, so the text encoder is random"
    fresh = ours.copy_weights(theirs)
    if not fresh:
        return "all words are known there"
    return (
        f"{len(fresh)} of {len(ours.vocabulary)} tokens are unknown there and "
        f"random at first: {some_of(fresh, 20)}"
    )


def collect_facts(model, images):
    """Collect what a run records of its start: images, size, versions.

    Args:
        model: the `DenoisingTrainer`.
        images: `RunImages`.

    Returns:
        A dict of JSON types.
    """
    return {
        **images.facts(),
        "parameters": model.backbone.count_params(),
        "versions": {
            "keras_simple_diffusion": __version__,
            "keras": keras.__version__,
            "backend": backend_name(),
            "python": platform.python_version(),
        },
    }


def make_quick_frechet(settings, model, prompts):
    """Create the callback of a run's `quick_fid`.

    Args:
        settings: `RunSettings`.
        model: the `DiffusionModel` or `TextToImage`.
        prompts: list of strings for a `TextToImage`, else `None`.

    Returns:
        A `QuickFrechet`.
    """
    features = InceptionFeatures(settings.feature_weights)
    height, width, channels = model.backbone.image_shape
    source = open_data(settings.data, (height, width), "train", channels)
    _, statistics = reference_features(source, features)
    return QuickFrechet(
        statistics,
        features,
        settings.quick_fid,
        None if prompts is None else source.captions(),
        seed=settings.seed,
    )
