"""Times `lake compile` of generated projects as whole processes: medians of five, with the peak memory of each process.

    cargo build --release && cargo bench --no-run && python3 bench/compile.py [100 1000 10000 30000]

cold: there is no `.lake/`; unchanged: nothing was edited; one edit: the SQL of one model of the second layer says
something else each time; one macro: every model reaches it. Beside `lake`, in the same run, a bare program plans and
analyses the same SQL with DataFusion on one thread, and does nothing else (benches/bare_engine.rs).
"""

import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from measure import LAKE, ROOT, bare_engine, measure

RUNS = 5


def project(count, folder):
    """The cells of one row."""
    compile_all = [LAKE, "compile", "--project-dir", str(folder)]
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

    return [
        measure(compile_all, RUNS, put_aside),
        measure(compile_all, RUNS),
        measure(compile_all, RUNS, edit),
        measure(compile_all, RUNS, edit_macro),
        measure([bare_engine(), "plan", str(folder / ".lake/compiled/models")], RUNS),
    ]


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
