"""Whole processes, timed: what the benchmarks share."""

import os
import pathlib
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
LAKE = str(TARGET / "lake")


def bare_engine(folder=TARGET):
    """The newest build of benches/bare_engine.rs."""
    builds = [path for path in (folder / "deps").glob("bare_engine-*") if not path.suffix]
    return str(max(builds, key=lambda path: path.stat().st_mtime))


def once(command):
    """Wall milliseconds and peak megabytes of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - start
    assert status == 0, f"{command} failed"
    return elapsed * 1000, usage.ru_maxrss / 1024


def measure(command, runs, before=lambda run: None):
    """The medians of [`once`]; `before` gets the number of the run."""
    found = []
    for run in range(runs + 1):
        before(run)
        found.append(once(command))
    # The first warms the file cache.
    times, peaks = zip(*found[1:])
    return statistics.median(times), statistics.median(peaks)
