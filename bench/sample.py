"""Times the sample lake as whole processes: medians of seven runs, with the peak memory of each process.

    cargo build --release && cargo bench --no-run && python3 bench/sample.py

Beside `lake`, in the same run, a bare DataFusion program does the same reading, computing and writing
(benches/bare_engine.rs).
"""

import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
RUNS = 7


def measure(command, before=lambda: None):
    """Median wall seconds and peak megabytes of a command."""
    seconds, peaks = [], []
    for run in range(RUNS + 1):
        before()
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - start
        assert status == 0, f"{command} failed"
        if run > 0:  # the first warms the file cache
            seconds.append(elapsed)
            peaks.append(usage.ru_maxrss / 1024)
    return statistics.median(seconds), statistics.median(peaks)


def main():
    lake = str(TARGET / "lake")
    engine = max((TARGET / "deps").glob("bare_engine-*[0-9a-f]"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for part in ["project.yml", "sources.yml", "models", "macros", "data/bronze"]:
            source, goal = ROOT / part, folder / part
            shutil.copytree(source, goal) if source.is_dir() else shutil.copy(source, goal)
        (folder / "tests").mkdir()
        for test in (ROOT / "tests").glob("*.sql"):
            shutil.copy(test, folder / "tests")
        project = ["--project-dir", str(folder)]

        def fresh(name):
            return lambda: shutil.rmtree(folder / name, ignore_errors=True)

        rows = [
            ("`lake --version`", measure([lake, "--version"])),
            ("first `lake build`", measure([lake, "build", *project], fresh("data/lake"))),
            ("`lake build` with nothing to do", measure([lake, "build", *project])),
            ("`lake compile`", measure([lake, "compile", *project])),
            ("bare engine, the first build's queries alone",
             measure([str(engine), str(folder / "data/bronze"), str(folder / "out")], fresh("out"))),
        ]
    print(f"{platform.machine()}, {os.cpu_count()} cores, medians of {RUNS}\n")
    print("| whole process | wall | peak memory |\n| --- | --- | --- |")
    for name, (seconds, peak) in rows:
        print(f"| {name} | {seconds * 1000:.0f} ms | {peak:.0f} MB |")


if __name__ == "__main__":
    main()
