"""The result of an evaluation: a mapping, a table to print, and files."""

import collections.abc
import json
import pathlib

from keras_simple_diffusion.evaluation.card import draw_scores
from keras_simple_diffusion.evaluation.card import format_table
from keras_simple_diffusion.evaluation.card import write_card
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.files import whole_file
from keras_simple_diffusion.utils.presets import read_json


class Result(collections.abc.Mapping):
    """The scores of one set of images.

    Args:
        content: dict, a result of the report's JSON: how the images were made,
            and `"scores"`, a dict from `"generated"` and the names of splits to
            dicts of scores; optionally `"nearest"` and `"conditioning"`, with
            `"scores"` from `"generated"`, `"held_out"` and `"chance"`.

    Attributes:
        content: the same dict.
    """

    def __init__(self, content):
        self.content = content
        self._scores = _flatten(content["scores"])
        for part in ("nearest", "conditioning"):
            if part in content:
                self._scores |= _flatten(content[part]["scores"])

    def __getitem__(self, name):
        return self._scores[name]

    def __iter__(self):
        return iter(self._scores)

    def __len__(self):
        return len(self._scores)

    def __repr__(self):
        return f"Result({self._scores})"


class Report(collections.abc.Mapping):
    """The result of `keras_simple_diffusion.evaluation.evaluate`.

    It prints as a table. `report["fid_test"]` is a score, named after the
    metric and the split; scores of the generated images alone have no split.
    `report["memorized"]` has `"memorized_held_out"` beside it. Where
    several steps or guidance scales were evaluated, `report.results[i]` is the
    mapping of each.

    Args:
        content: dict, what `to_json` writes.

    Attributes:
        content: the same dict.
        results: list of `Result`s, one per combination of steps and guidance
            scale, in the order given.

    Example:
    >>> report = keras_simple_diffusion.evaluation.evaluate(
    ...     model,
    ...     images,
    ...     metrics=["class_accuracy"],
    ...     num_images=20,
    ...     classifier="classifier.keras",
    ... )
    >>> print(report)
    >>> report["class_accuracy"] == report.results[0]["class_accuracy"]
    True
    """

    def __init__(self, content):
        self.content = content
        self.results = [Result(each) for each in content["results"]]
        bits = {
            split: {
                "bits_per_dimension": values["mean"],
                "bits_per_dimension_standard_error": values["standard_error"],
            }
            for split, values in content.get("bits_per_dimension", {}).items()
        }
        self._scores = _flatten(bits)
        if len(self.results) == 1:
            self._scores = {**self.results[0], **self._scores}

    @classmethod
    def load(cls, path):
        """Read the report from a `.json` file of `save`.

        Args:
            path: path of the file.

        Returns:
            A `Report`.

        Raises:
            InputError: if the file is damaged, or holds anything else.
        """
        content = read_json(path)
        try:
            return cls(content)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"'{path}' is not the report of an evaluation, as `save` "
                "writes it. Restore it from a copy, or evaluate again."
            ) from error

    def __getitem__(self, name):
        if name not in self._scores and len(self.results) > 1:
            raise KeyError(
                f"{name}: the report has {len(self.results)} results, see "
                "`report.results[i]`"
            )
        return self._scores[name]

    def __iter__(self):
        return iter(self._scores)

    def __len__(self):
        return len(self._scores)

    def __repr__(self):
        return f"Report(results={self.results}, scores={self._scores})"

    def __str__(self):
        return format_table(self.content)

    def to_json(self):
        """Return the whole report as a JSON string."""
        return json.dumps(self.content, indent=2) + "\n"

    def save(self, path):
        """Write the report, and beside it a card and a plot.

        Args:
            path: path of a `.json` file. A fragment of a model card goes to
                `.md`, and a plot of several FIDs to `.png`.
        """
        path = pathlib.Path(path)
        with whole_file(path) as draft:
            draft.write_text(self.to_json())
        with whole_file(path.with_suffix(".md")) as draft:
            draft.write_text(write_card(self.content))
        metrics = self.content["settings"]["metrics"]
        if len(self.results) > 1 and "fid" in metrics:
            with whole_file(path.with_suffix(".png")) as draft:
                draw_scores(self.content["results"], draft)


def _flatten(scores):
    """Name scores after metric and split, such as `fid_test`."""
    return {
        name if split == "generated" else f"{name}_{split}": value
        for split, values in scores.items()
        for name, value in values.items()
    }
