import csv
import pathlib

import keras

from keras_simple_diffusion.utils.files import whole_file


class History(keras.callbacks.Callback):
    """Append a line to `history.csv` after each interval.

    Lines of steps that the run has to do again are dropped at the start.

    Args:
        position: the run's `Position`.
        path: path of the file.
        fields: list of strings, the names in the logs to write down.
    """

    def __init__(self, position, path, fields):
        super().__init__()
        self.position = position
        self.path = pathlib.Path(path)
        self.fields = ["step", "seconds", *fields]
        rows = read_history(self.path) if self.path.exists() else []
        with whole_file(self.path) as draft:
            with draft.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.fields, restval="")
                writer.writeheader()
                for row in rows:
                    if int(row["step"]) <= position.step:
                        writer.writerow({f: row.get(f) for f in self.fields})

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "step": self.position.step,
            "seconds": f"{self.position.seconds():.1f}",
        }
        for name, value in (logs or {}).items():
            if name in self.fields:
                row[name] = f"{value:.6g}"
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.fields, restval="").writerow(row)


def read_history(path):
    """Rows of a `history.csv` as dicts of strings, without a torn last one."""
    with pathlib.Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values()]
