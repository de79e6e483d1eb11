"""An evaluation for readers: a table, a part of a model card, a plot.

All take the content of a `Report`, the dict that is its JSON.
"""

import textwrap

from keras_simple_diffusion.evaluation.scores import FRECHET_DISTANCES
from keras_simple_diffusion.metrics.frechet import FEW_IMAGES

_WIDTH = 80
_IN_CELLS = ("_standard_error", "_interval_95", "_deviation")
_PARTS = ("nearest", "conditioning")
_TITLES = {
    "nearest": "Nearest training images",
    "conditioning": "Agreement with the labels or prompts",
}
_SHEET = "generated images above the training images nearest to them"


def format_table(content):
    """Format the scores as a table of at most 80 columns.

    Args:
        content: dict.

    Returns:
        A string.
    """
    blocks = []
    for result in content["results"]:
        blocks.append(_wrap(_describe(result)))
        compared = dict(result["scores"])
        alone = {"generated": compared.pop("generated")}
        further = [result[part]["scores"] for part in _PARTS if part in result]
        blocks += [_align(scores) for scores in (compared, alone, *further)]
    return "\n\n".join(filter(None, blocks + _notes(content)))


def write_card(content):
    """Write a part of a model card, in Markdown.

    Args:
        content: dict.

    Returns:
        A string.
    """
    settings, blocks = content["settings"], ["## Evaluation"]
    if settings["protocol"]:
        blocks.append(f"Protocol: `{settings['protocol']}`.")
    for result in content["results"]:
        blocks += [_describe(result), _tabulate(result["scores"])]
        for part in _PARTS:
            if part in result:
                blocks.append(f"### {_TITLES[part]}")
                blocks.append(_tabulate(result[part]["scores"]))
                if "sheet" in result[part]:
                    blocks.append(f"![{_SHEET}]({result[part]['sheet']})")
    blocks += _notes(content)
    networks = ", ".join(f"`{n}`" for n in settings["networks"].values())
    versions = ", ".join(f"{k} {v}" for k, v in settings["versions"].items())
    blocks.append(f"Networks: {networks or 'none'}. {versions}.")
    blocks.append(f"Computed on {content['device']}.")
    return "\n\n".join(blocks) + "\n"


def draw_scores(results, path):
    """Plot FID over the guidance scale, or over the steps if they differ.

    Args:
        results: list of dicts, those of the content.
        path: path of the image.
    """
    from matplotlib import pyplot

    guidances = {result["guidance"] for result in results}
    across, lines = ("guidance", "steps")
    if len(guidances) == 1:
        across, lines = lines, across
    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for split, scores in results[0]["scores"].items():
        if "fid" not in scores:
            continue
        for value in sorted({result[lines] for result in results}):
            points = sorted(
                (result[across], result["scores"][split]["fid"])
                for result in results
                if result[lines] == value
            )
            label = f"{split}, {lines} {value}"
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_xlabel(across)
    axes.set_ylabel("FID")
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


def _describe(result):
    """Describe how one set of images was made."""
    if "steps" not in result:
        return f"{result['num_images']:,} stored images"
    interval = result["guidance_interval"]
    within = ""
    if interval:
        within = f" for log-SNRs from {interval[0]:g} to {interval[1]:g}"
    weights = result["weights"]
    decay = ""
    if "ema_decay" in weights:
        decay = f", averaged with decay {weights['ema_decay']}"
    return (
        f"{result['num_images']:,} images, {result['sampler']}, "
        f"{result['steps']} steps, guidance {result['guidance']:g}{within}, "
        f"seed {result['seed']}; weights {weights['sha256'][:12]}{decay}"
    )


def _notes(content):
    """Write the paragraphs below the scores."""
    notes, references = [], content["references"]
    for split, bits in content.get("bits_per_dimension", {}).items():
        notes.append(
            f"Bits per dimension of {bits['count']:,} {split} images: at most "
            f"{bits['mean']:.3f} ± {bits['standard_error']:.3f} (a standard "
            "error)."
        )
    counts = " and ".join(f"{n:,} {split}" for split, n in references.items())
    shape = " x ".join(map(str, content["image_shape"]))
    notes.append(
        f"Real images ({content['settings']['data']}): {counts} images, "
        f"{shape}."
    )
    if content["results"]:
        notes.append(
            "In the table (a to b) is a 95 % bootstrap interval, and ± a "
            "standard deviation over subsets of the images."
        )
    notes += _explain(content)
    counts = [result["num_images"] for result in content["results"]]
    is_frechet = FRECHET_DISTANCES & set(content["settings"]["metrics"])
    if is_frechet and min([*counts, *references.values()]) < FEW_IMAGES:
        notes.append(
            f"Warning: with fewer than {FEW_IMAGES:,} images a Fréchet "
            "distance is biased upwards. Compare it only with distances of as "
            "many images."
        )
    return [_wrap(note) for note in notes]


def _explain(content):
    """Explain the tables of nearest training images and of agreement."""
    result = content["results"][0] if content["results"] else {}
    networks = content["settings"]["networks"]
    network = networks.get("efficientnet") or networks.get("inception")
    notes = []
    if "nearest" in result:
        notes.append(
            f"Nearest training images, mirrored ones included: distances in "
            f"the features of {network}, and of pixels (root mean square, of "
            "255)."
        )
        if "memorized" in result["nearest"]["scores"]["generated"]:
            notes.append(
                "memorized is the share of images that are nearer to their "
                "nearest training image than all held-out images are to it; "
                "a share well above that of the real held-out images "
                "(held_out) indicates copies."
            )
    agreement = result.get("conditioning", {}).get("scores", {})
    if "class_recognition" in agreement.get("generated", {}):
        notes.append(
            "class_recognition is the share of images whose nearest class "
            f"mean of real images, in the features of {network}, is that of "
            "the class asked for; held_out is that of the real held-out images."
        )
    if "prompt_words" in agreement.get("generated", {}):
        notes.append(
            "prompt_retrieval is the share of images whose nearest real image "
            f"of 100, in the features of {network}, is that of the prompt. "
            "prompt_words is the share of the prompts' words in the captions "
            "of the nearest training image; held_out is that of the real "
            "held-out images."
        )
    return notes


def _tabulate(scores):
    """Format scores as a table in Markdown, see `_arrange`."""
    columns, rows = _arrange(scores)
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *rows[name]] for name in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _arrange(scores):
    """Arrange scores in rows, each value with its interval or deviation.

    Args:
        scores: dict from columns to dicts of scores.

    Returns:
        A tuple of the list of columns, and a dict from the names of scores to
        lists of cells.
    """
    columns = [column for column, each in scores.items() if each]
    names = {name: None for column in columns for name in scores[column]}
    rows = {
        name: [_cell(scores[column], name) for column in columns]
        for name in names
        if not name.endswith(_IN_CELLS)
    }
    return columns, rows


def _align(scores):
    """Format scores as rows of text with aligned columns."""
    columns, rows = _arrange(scores)
    lines = [["", *columns], *([name, *rows[name]] for name in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(map(str.ljust, line, widths)).rstrip()
        for line in lines[0 if columns else 1 :]
    )


def _cell(scores, name):
    if name not in scores:
        return ""
    if name == "compared":
        return " with ".join(f"{count:,}" for count in scores[name])
    text = f"{scores[name]:.4g}"
    if f"{name}_interval_95" in scores:
        low, high = scores[f"{name}_interval_95"]
        text += f" ({low:.4g} to {high:.4g})"
    if f"{name}_deviation" in scores:
        text += f" ± {scores[f'{name}_deviation']:.2g}"
    return text


def _wrap(text):
    return textwrap.fill(text, _WIDTH, break_long_words=False)
