"""The networks that `evaluate` looks at pictures with."""

from keras_simple_diffusion.evaluation.scores import networks_of
from keras_simple_diffusion.metrics import ClassifierOutputs
from keras_simple_diffusion.metrics import CLIPFeatures
from keras_simple_diffusion.metrics import DINOFeatures
from keras_simple_diffusion.metrics import InceptionFeatures
from keras_simple_diffusion.utils.errors import InputError

_BATCH_SIZE = 32


def load_networks(settings, files):
    """The networks that the metrics need.

    Args:
        settings: dict of the evaluation's settings.
        files: dict from a network's name to its file or preset, or `None`
            for the default.

    Returns:
        A dict from names to functions of pictures.
    """
    needed = networks_of(settings["metrics"])
    for name in ("dinov2", "clip", "classifier"):
        if files[name] is not None and name not in needed:
            raise InputError(
                f"No metric asked for is of `--{name}`. Received: --metrics "
                f"{','.join(settings['metrics'])}"
            )
    size = min(settings["batch_size"], _BATCH_SIZE)
    networks = {}
    for name in needed:
        chosen = {} if files.get(name) is None else {"preset": files[name]}
        if name == "inception":
            networks[name] = InceptionFeatures(
                files[name], settings["resize"], size
            )
        elif name == "dinov2":
            networks[name] = DINOFeatures(**chosen, batch_size=size)
        elif name == "clip":
            networks[name] = CLIPFeatures(**chosen, batch_size=size)
        elif name == "classifier":
            if not chosen:
                raise InputError(
                    "`class_accuracy` needs a classifier: pass --classifier "
                    "FILE.keras"
                )
            networks[name] = ClassifierOutputs(files[name], size)
    if "inception_score" in settings["metrics"]:
        if networks["inception"].logits_kernel is None:
            raise InputError(
                "`inception_score` needs logits, which the weights file "
                f"'{files['inception']}' does not have; the published one has "
                "them. Leave --feature-weights out to download it."
            )
    return networks
