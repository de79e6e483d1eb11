"""Contenders that take turns in separate processes, with equal noise.

A script calls `serve` in a worker and `take_turns` in the process that the
user starts. While one works the others sleep.
"""

import json
import subprocess
import sys
import time

import numpy as np


def serve(function, facts=None, clock=time.perf_counter):
    """In a worker: run the function once, then once for each turn.

    Args:
        function: function without arguments that returns when all is computed;
            or that returns the seconds that count, where something around them
            does not.
        facts: function without arguments that returns a dict, told after the
            first call.
        clock: function that returns seconds.
    """
    started = clock()
    function()
    first = clock() - started
    told = {"first_seconds": first, **(facts() if facts else {})}
    print(json.dumps(told), flush=True)
    for _ in sys.stdin:
        started = clock()
        seconds = function()
        if seconds is None:
            seconds = clock() - started
        print(json.dumps(seconds), flush=True)


def take_turns(names, rounds, environment=None):
    """Start this script once a contender, with `--worker NAME`, and time them.

    Args:
        names: list of strings.
        rounds: int. Turns of each.
        environment: optional function of a name that returns its environment.

    Returns:
        A tuple of two dicts by name: the facts told, and arrays of seconds.
        A contender that fails to start is left out, aloud.
    """
    workers, facts = {}, {}
    for name in names:
        worker = subprocess.Popen(
            [sys.executable, *sys.argv, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment and environment(name),
        )
        line = worker.stdout.readline()
        if not line:
            print(f"{name}: cannot run here", file=sys.stderr, flush=True)
            continue
        workers[name], facts[name] = worker, json.loads(line)
    seconds = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            print("go", file=worker.stdin, flush=True)
            seconds[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return facts, {name: np.array(v) for name, v in seconds.items()}


def ratio(seconds, base):
    """Ratio of medians, and the quartiles of the ratios round by round."""
    quartiles = np.quantile(seconds / base, [0.25, 0.75])
    return {
        "ratio": round(float(np.median(seconds) / np.median(base)), 3),
        "quartiles": [round(float(q), 3) for q in quartiles],
    }
