"""Training of a network from images, as a run."""

from keras_simple_diffusion.backend.choice import check_training
from keras_simple_diffusion.models.preset import Preset
from keras_simple_diffusion.training import setup
from keras_simple_diffusion.training.folder import RunFolder
from keras_simple_diffusion.training.planning import output_for
from keras_simple_diffusion.training.planning import plan
from keras_simple_diffusion.training.run import Run
from keras_simple_diffusion.training.run import distributed
from keras_simple_diffusion.training.run import say
from keras_simple_diffusion.training.settings import RunSettings
from keras_simple_diffusion.training.settings import absolute
from keras_simple_diffusion.training.settings import check_names
from keras_simple_diffusion.training.settings import names_of_options
from keras_simple_diffusion.utils.errors import InputError


def train_run(
    data,
    output=None,
    preset=None,
    image_size=None,
    *,
    steps=None,
    batch_size=None,
    optimizer=None,
    learning_rate=None,
    beta_1=None,
    beta_2=None,
    epsilon=None,
    weight_decay=None,
    warmup_steps=None,
    clip_norm=None,
    ema_decay=None,
    accumulate=None,
    flip=None,
    cooldown_steps=None,
    dtype=None,
    rematerialize=None,
    schedule=None,
    stratified=None,
    seed=None,
    initialize_from=None,
    from_scratch=False,
    embeddings=None,
    minutes=None,
    checkpoint_every=None,
    samples_every=None,
    quick_fid=None,
    feature_weights=None,
    keep=None,
    snapshots=None,
    workers=None,
    crop=None,
    aspect_buckets=None,
    distribution=None,
    log=None,
    **unknown,
):
    """Train a network on images, into a run folder.

    Without a preset, `keras_simple_diffusion.training.plan` chooses network
    and recipe, and is printed. With a preset and `minutes`, but without
    `steps`, it chooses the recipe. A preset with weights is finetuned.

    The folder receives `config.json`, `history.csv`, `checkpoints/` (all that
    `resume_run` needs), `preset/` (a preset with the averaged weights),
    `loss.png`, `levels.png` (the loss by noise level), `samples.png`, and
    `index.html`, a page with all of these.

    Args:
        data: string, see `keras_simple_diffusion.data.open_data`.
        output: path of the run folder, which must be new or empty. Defaults
            to a new folder `runs/NAME`, named after the data.
        preset: string, path or `keras_simple_diffusion.models.Preset` that
            gives network, recipe, weights and defaults of sampling. Defaults
            to the plan's.
        image_size: int or `(height, width)`. Defaults to the preset's, or the
            plan's.
        steps, batch_size, optimizer, learning_rate, beta_1, beta_2, epsilon:
            see `Recipe`. They default to the preset's recipe, or the plan's.
        weight_decay, warmup_steps, clip_norm, ema_decay, accumulate, flip:
            likewise.
        cooldown_steps: likewise.
        from_scratch: bool. Start from random weights, not from the preset's.
            Defaults to `False`.
        dtype, rematerialize, schedule, stratified: see `RunSettings`. They
            default to the preset's.
        seed, initialize_from, embeddings, minutes, checkpoint_every:
            see `RunSettings`. `None` stands for the default there.
        samples_every, quick_fid, feature_weights, keep, snapshots: likewise.
        workers, crop, aspect_buckets, distribution, log: likewise.
        **unknown: raises an `InputError` that suggests the intended name.

    Returns:
        The trained `DiffusionModel` or `TextToImage`.

    Raises:
        InputError: if data, preset or settings are invalid.
        Interrupted: if a signal ended the training; the run is saved.

    Example:
    ```python
    model.save_to_preset("start")  # Or a built-in preset.
    model = keras_simple_diffusion.training.train_run(
        "digits", "runs/digits", "start", steps=2
    )
    ```
    """
    check_training()
    known = names_of_options()
    check_names(unknown, known, "`train_run`")
    options = {
        name: value
        for name, value in locals().items()
        if name in known and value is not None
    }
    folder = RunFolder(output_for(data) if output is None else output)
    folder.check_is_outside(data)
    folder.check_is_free()
    if from_scratch and initialize_from is not None:
        raise InputError(
            "`from_scratch` asks for random weights, and `initialize_from` for "
            f"those of '{initialize_from}'. Use one of them."
        )
    if initialize_from is not None:
        setup.open_start(initialize_from)
    if preset is not None:
        preset = Preset.open(preset)
        setup.check_is_no_student(preset)
    if preset is None or (minutes is not None and steps is None):
        chosen = plan(
            **{**options, "preset": preset}, from_scratch=from_scratch
        )
        say(chosen)
        options = {**chosen.settings, "plan": chosen.lines}
        preset = preset or Preset.open(options["preset"])
    if preset.has_weights and not from_scratch:
        options.setdefault("initialize_from", preset.name)
    settings = RunSettings.from_preset(preset, options)
    with distributed(settings, preset):
        images = setup.RunImages(preset, settings)

        def build():
            model = setup.build_model(preset, images, settings)
            start = settings.initialize_from
            if start == absolute(preset.name):
                start = preset  # It is open already.
            if start is not None:
                say(setup.initialize(model, start))
            return model

        run = Run(folder.path, settings, images, build)
        with folder.held():  # Nothing is written before this line.
            folder.check_is_free()
            run.start()
            return run.train()
