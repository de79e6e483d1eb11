import dataclasses

from keras_simple_diffusion.optimizers.make_optimizer import make_optimizer
from keras_simple_diffusion.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a preset is trained; `recipe.json` of its folder.

    Args:
        steps: int. Number of training steps.
        batch_size: int. Pictures a step.
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
            pictures, and their gradients are added up.
        stratified: bool. Whether a batch covers the noise levels evenly.
        flip: bool. Whether half of the pictures are mirrored.
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
