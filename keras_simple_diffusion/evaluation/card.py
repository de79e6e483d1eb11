"""What a reader sees of an evaluation: a table for a model card, a plot."""

_ROUNDED = ".4g"
_FEW = 10_000


def write_card(report):
    """A part of a model card, in Markdown.

    Args:
        report: dict, the content of the report.

    Returns:
        A string.
    """
    settings, lines = report["settings"], ["## Evaluation", ""]
    if settings["protocol"]:
        lines += [f"Protocol: `{settings['protocol']}`.", ""]
    for result in report["results"]:
        lines += [_describe(result), ""]
        columns = [s for s, scores in result["scores"].items() if scores]
        names = {n: None for s in columns for n in result["scores"][s]}
        lines.append(f"| | {' | '.join(columns)} |")
        lines.append("|---" * (len(columns) + 1) + "|")
        for name in names:
            cells = [_show(result["scores"][s].get(name)) for s in columns]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    counts = [result["num_images"] for result in report["results"]]
    if any(name.startswith("f") for name in settings["metrics"]) and (
        min([*counts, *report["references"].values()]) < _FEW
    ):
        lines += [
            f"Of fewer than {_FEW:,} images a Fréchet distance is too large "
            "by much: compare it with ones of as many only.",
            "",
        ]
    for split, bits in report.get("bits_per_dimension", {}).items():
        lines += [
            f"Bits per dimension, at most, of {bits['count']:,} {split} "
            f"images: {bits['mean']:.3f} ± {bits['standard_error']:.3f}.",
            "",
        ]
    versions = settings["made_with"]["versions"]
    counts = ", ".join(f"{v:,} of {k}" for k, v in report["references"].items())
    lines += [
        f"Real images: `{settings['data']}`, {counts}, "
        f"{' x '.join(map(str, report['image_shape']))}. Networks: "
        f"{', '.join(f'`{n}`' for n in settings['networks'].values())}. "
        f"{', '.join(f'{k} {v}' for k, v in versions.items())}, "
        f"{report['device']}.",
    ]
    return "\n".join(lines) + "\n"


def _describe(result):
    if "steps" not in result:
        return f"{result['num_images']:,} images that were there."
    interval = result["guidance_interval"]
    within = f" for log-SNRs in {interval}" if interval else ""
    decay = result["weights"].get("ema_decay")
    average = (
        f"averaged weights (decay {decay})" if decay else ("averaged weights")
    )
    return (
        f"{result['num_images']:,} images, {result['sampler']}, "
        f"{result['steps']} steps, guidance {result['guidance']}{within}, "
        f"{average} `{result['weights']['sha256'][:12]}`, seed "
        f"{result['seed']}."
    )


def _show(value):
    if value is None:
        return ""
    if isinstance(value, list) and isinstance(value[0], int):
        return " with ".join(format(v, ",") for v in value)
    if isinstance(value, list):
        return " to ".join(format(v, _ROUNDED) for v in value)
    return format(value, _ROUNDED)


def draw_scores(results, path):
    """FID against what the list was of: the guidance, or else the steps.

    Args:
        results: list of dicts, those of the report.
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
