#!/usr/bin/env bash
# Grain 0.2.18: after one unreadable element, an iterator never ends.
#
# An iterator over a `MapDataset` goes on after an element that raised, so that
# a loop may skip it; but it has lost count. With its reading threads (the
# default) it yields all other elements and then raises `IndexError: pop from
# an empty deque` for ever, where a loop waits for `StopIteration`. Without
# threads it raises the error of that one element for ever and never yields the
# rest. Only an error of an `IterDataset.map` is skipped properly.
#
# Guessed: the rest of the elements and then StopIteration, in all three.
#
# Expected output:
#   read by threads: 0 RuntimeError 2 3 IndexError IndexError IndexError
#   read without threads: 0 RuntimeError RuntimeError RuntimeError RuntimeError RuntimeError RuntimeError
#   mapped after reading: 0 RuntimeError 2 3 StopIteration
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q grain==0.2.18 numpy==2.4.6
cat > "$place/run.py" <<'END'
import grain


def decode(index):
    if index == 1:
        raise RuntimeError("the second image cannot be read")
    return index


def seven_calls(dataset):
    elements = iter(dataset)
    calls = []
    for _ in range(7):
        try:
            calls.append(str(next(elements)))
        except StopIteration:
            calls.append("StopIteration")
            break
        except Exception as error:
            calls.append(type(error).__name__)
    return " ".join(calls)


indices = grain.MapDataset.range(4)
no_threads = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
found = {
    "read by threads": seven_calls(indices.map(decode).to_iter_dataset()),
    "read without threads": seven_calls(
        indices.map(decode).to_iter_dataset(no_threads)
    ),
    "mapped after reading": seven_calls(indices.to_iter_dataset().map(decode)),
}
for name, calls in found.items():
    print(f"{name}: {calls}")
assert list(found.values()) == [
    "0 RuntimeError 2 3 IndexError IndexError IndexError",
    "0" + 6 * " RuntimeError",
    "0 RuntimeError 2 3 StopIteration",
], "the behaviour has changed"
END
"$place/venv/bin/python" "$place/run.py"
