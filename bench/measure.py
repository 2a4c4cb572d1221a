"""Whole processes, timed: what the benchmarks share."""

import os
import pathlib
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
LAKE = str(TARGET / "lake")


def bare_engine():
    """The newest build of benches/bare_engine.rs."""
    return str(max((TARGET / "deps").glob("bare_engine-*[0-9a-f]"), key=lambda path: path.stat().st_mtime))


def measure(command, runs, before=lambda run: None):
    """Median wall milliseconds and peak megabytes of a command; `before` gets the number of the run."""
    times, peaks = [], []
    for run in range(runs + 1):
        before(run)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - start
        assert status == 0, f"{command} failed"
        if run > 0:  # the first warms the file cache
            times.append(elapsed * 1000)
            peaks.append(usage.ru_maxrss / 1024)
    return statistics.median(times), statistics.median(peaks)
