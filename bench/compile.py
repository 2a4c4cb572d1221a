"""Times `lake compile` of generated projects as whole processes: medians of five, with the peak memory of each process.

    cargo build --release && cargo bench --no-run && python3 bench/compile.py [100 1000 10000 30000]

cold: there is no `.lake/`; unchanged: nothing was edited; one edit: the SQL of one model of the second layer says
something else each time; one macro: every model reaches it. Beside `lake`, in the same run, a bare program plans and
analyses the same SQL with DataFusion on one thread, and does nothing else (benches/bare_engine.rs).
"""

import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
RUNS = 5


def measure(command, before=lambda run: None):
    """Median wall milliseconds and peak megabytes of a command."""
    times, peaks = [], []
    for run in range(RUNS + 1):
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


def project(count, folder):
    """The cells of one row."""
    lake = str(TARGET / "lake")
    engine = max((TARGET / "deps").glob("bare_engine-*[0-9a-f]"), key=lambda path: path.stat().st_mtime)
    compile_all = [lake, "compile", "--project-dir", str(folder)]
    edited = next(path for path in sorted((folder / "models/silver").glob("*/*.sql")))
    text = edited.read_text()
    macro = folder / "macros/bucket.sql"
    macro_text = macro.read_text()

    def edit(run):
        edited.write_text(text.replace("count(*) as n", f"count(*) + {run + 1} as n"))
        time.sleep(0.1)

    def put_aside(run):
        # Not deleted: ext4 is slow to make files just after it has deleted many.
        if (folder / ".lake").exists():
            (folder / ".lake").rename(folder.parent / f"aside{run}")

    def edit_macro(run):
        macro.write_text(macro_text.replace("'none'", f"'none {run + 1}'"))
        time.sleep(0.1)

    cells = [
        measure(compile_all, put_aside),
        measure(compile_all),
        measure(compile_all, edit),
        measure(compile_all, edit_macro),
        measure([str(engine), "plan", str(folder / ".lake/compiled/models")]),
    ]
    return cells


def main():
    counts = [int(count) for count in sys.argv[1:]] or [100, 1000, 10000, 30000]
    print(f"{platform.machine()}, {os.cpu_count()} cores, medians of {RUNS}\n")
    print("| models | cold | per model | unchanged | one edit | one macro | engine alone, planning |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count in counts:
        with tempfile.TemporaryDirectory() as parent:
            folder = pathlib.Path(parent) / "project"
            subprocess.run([sys.executable, str(ROOT / "bench/generate.py"), str(count), str(folder)], check=True)
            cells = project(count, folder)
        shown = [f"{wall:,.0f} ms, {peak:.0f} MB" for wall, peak in cells]
        shown.insert(1, f"{cells[0][0] / count:.2f} ms")
        print(f"| {count:,} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
