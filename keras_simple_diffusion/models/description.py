"""Descriptions of a model, as a text and as a table of a notebook."""

import html

_MAX_CLASSES = 20


def as_text(model):
    """Describe a model in lines of text.

    Args:
        model: a `DiffusionTask`.

    Returns:
        A string.
    """
    lines = [f"  {name}: {value}" for name, value in _facts(model).items()]
    return "\n".join([_title(model), *lines])


def as_html(model):
    """Describe a model, and its classes, in a table.

    Args:
        model: a `DiffusionTask`.

    Returns:
        A string of HTML.
    """
    facts = {**_facts(model), **_classes(model)}
    rows = "".join(
        f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    caption = html.escape(_title(model))
    return f"<table><caption>{caption}</caption>{rows}</table>"


def _title(model):
    return f"{type(model).__name__} '{model.name}'"


def _facts(model):
    backbone = model.backbone
    shape = " x ".join(str(size) for size in backbone.image_shape)
    return {
        "backbone": f"{type(backbone).__name__} of {shape}, "
        f"{backbone.count_params():,} parameters",
        "schedule": model.schedule,
        "loss": model.diffusion_loss,
        "prediction_type": model.prediction_type,
        "sampler": model.sampler,
        "num_steps": model.num_steps,
        "guidance_scale": model.guidance_scale,
        **(
            {"guidance_interval": model.guidance_interval}
            if model.guidance_interval
            else {}
        ),
        **(
            {"guidance_model": "a copy of a weaker model"}
            if model.guidance_model
            else {}
        ),
    }


def _classes(model):
    count = model.backbone.num_classes
    if count is None:
        return {}
    names = getattr(model, "class_names", None)
    if names is None:
        return {"classes": count}
    more = ["..."] if count > _MAX_CLASSES else []
    names = ", ".join([*names[:_MAX_CLASSES], *more])
    return {"classes": f"{count}: {names}"}
