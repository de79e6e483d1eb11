import dataclasses
import json
import pathlib

from keras_simple_diffusion.optimizers.construction import make_optimizer
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file

_FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a preset is trained; `recipe.json` of its folder.

    Args:
        steps: int. Number of training steps.
        batch_size: int. Images a step.
        optimizer: string. `"adam"`, `"adamw"` or `"muon"`, see
            `keras_simple_diffusion.optimizers.make_optimizer`.
        learning_rate: float. Learning rate after the warm-up.
        beta_1: float. First-moment decay of Adam.
        beta_2: float. Second-moment decay of Adam.
        epsilon: float. Adam's epsilon.
        weight_decay: float. For `"adamw"` and `"muon"`.
        warmup_steps: int. Steps of linear warm-up.
        clip_norm: float. Largest norm of the whole gradient.
        ema_decay: float. Decay of the average of the weights.
        accumulate: int. Batches a step: each holds `batch_size / accumulate`
            images, and their gradients are added up.
        stratified: bool. Whether a batch covers the noise levels evenly.
        flip: bool. Whether half of the images are mirrored.
    """

    steps: int = 100_000
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-12
    weight_decay: float = 0.0
    warmup_steps: int = 1000
    clip_norm: float = 1.0
    ema_decay: float = 0.9999
    accumulate: int = 1
    stratified: bool = False
    flip: bool = False

    def __post_init__(self):
        for name in ("steps", "batch_size", "learning_rate", "accumulate"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"`{name}` must be positive. Received: "
                    f"{name}={getattr(self, name)}"
                )
        if self.batch_size % self.accumulate:
            raise InputError(
                "`batch_size` must be a multiple of `accumulate`. Received: "
                f"batch_size={self.batch_size}, accumulate={self.accumulate}"
            )

    def make_optimizer(self):
        """A new `keras.optimizers.Optimizer` as the recipe says."""
        return make_optimizer(
            self.optimizer,
            self.learning_rate,
            warmup_steps=max(self.warmup_steps, 1),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            gradient_accumulation_steps=self.accumulate,
        )


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What a run was asked for; `config.json` of its folder.

    Args:
        data: string. `"digits"`, or the path of a folder or zip.
        preset: string. Name or folder of the preset.
        recipe: a `Recipe`.
        image_size: list of two ints, height and width.
        seed: int.
        initialize_from: string or `None`. Preset or run to start from.
        embeddings: string or `None`. Folder of the captions' embeddings.
        minutes: float or `None`. Training time of the whole run.
        checkpoint_every: int or `None`. Steps between checkpoints, besides
            the one at the end.
        samples_every: int or `None`. Steps between sheets of samples, besides
            the one at the end.
        quick_fid: int or `None`. Number of images of a Fréchet distance
            that is followed, see
            `keras_simple_diffusion.evaluation.QuickFrechet`.
        feature_weights: string or `None`. Weights of Inception for it.
        keep: int. Number of checkpoints to keep.
        snapshots: int or `None`. Number of times, over the run, at which
            averages are kept for `reconstruct`.
        workers: int. Processes that read images, 0 for threads only.
        crop: string. `"center"` or `"random"`.
        dtype: string. Dtype policy of the network.
        rematerialize: list of strings. Types of blocks that are computed
            again for the gradient, instead of keeping what they computed.
        distribution: string or `None`. See
            `keras_simple_diffusion.distribution.distribute`.
        log: list of strings. Loggers besides `history.csv`: `"tensorboard"`,
            `"wandb"`.
        facts: dict of what came out of it: numbers, versions.
    """

    data: str
    preset: str
    recipe: Recipe
    image_size: list
    seed: int = 0
    initialize_from: str | None = None
    embeddings: str | None = None
    minutes: float | None = None
    checkpoint_every: int | None = None
    samples_every: int | None = None
    quick_fid: int | None = None
    feature_weights: str | None = None
    keep: int = 3
    snapshots: int | None = None
    workers: int = 0
    crop: str = "center"
    dtype: str = "float32"
    rematerialize: list = dataclasses.field(default_factory=list)
    distribution: str | None = None
    log: list = dataclasses.field(default_factory=list)
    facts: dict = dataclasses.field(default_factory=dict)

    def write(self, folder):
        """Write `config.json` into the folder of a run."""
        with whole_file(pathlib.Path(folder) / _FILE) as draft:
            draft.write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    def to_dict(self):
        """All of it as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, folder):
        """Read them from the folder of a run.

        Raises:
            InputError: if that is not the folder of a run.
        """
        path = pathlib.Path(folder) / _FILE
        try:
            content = json.loads(path.read_text())
            return cls(**{**content, "recipe": Recipe(**content["recipe"])})
        except FileNotFoundError:
            raise InputError(
                f"There is no run at '{folder}': it has no {_FILE}. Start one "
                f"with `train --data ... --output {folder}`."
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"'{path}' is not the configuration of a run of this version: "
                f"{error}."
            ) from error

    def override(self, steps=None, minutes=None):
        """The same run, made longer or shorter."""
        changes = {}
        if steps is not None:
            changes["recipe"] = dataclasses.replace(self.recipe, steps=steps)
        if minutes is not None:
            changes["minutes"] = minutes
        return dataclasses.replace(self, **changes)
