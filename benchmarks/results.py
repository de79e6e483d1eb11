"""Results of a benchmark in a file, from which a later call continues."""

import json

import keras


class Results:
    """Rows in a file, one JSON object a line.

    Args:
        path: `pathlib.Path` of the file; its folder is made.
        names: names of the values that tell rows apart.
    """

    def __init__(self, path, *names):
        self.path, self.names = path, names
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = []
        if path.exists():
            self.rows = [json.loads(x) for x in path.read_text().splitlines()]

    def __contains__(self, key):
        """`True` if there is a row with the values of a tuple."""
        return any(
            tuple(row[name] for name in self.names) == key for row in self.rows
        )

    def add(self, key, values):
        """Print and write a row: its key, a tuple, and a dict of values."""
        row = {
            **dict(zip(self.names, key, strict=True)),
            **values,
            "backend": keras.config.backend(),
            "keras": keras.__version__,
        }
        line = json.dumps(row)
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")
        self.rows.append(row)
