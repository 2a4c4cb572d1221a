"""Times the sample lake as whole processes: medians of seven runs, with the peak memory of each process.

    cargo build --release && cargo bench --no-run && python3 bench/sample.py

Beside `lake`, in the same run, a bare DataFusion program does the same reading, computing and writing
(benches/bare_engine.rs).
"""

import os
import pathlib
import platform
import shutil
import tempfile

from measure import LAKE, ROOT, bare_engine, measure

RUNS = 7


def main():
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
            return lambda run: shutil.rmtree(folder / name, ignore_errors=True)

        rows = [
            ("`lake --version`", measure([LAKE, "--version"], RUNS)),
            ("first `lake build`", measure([LAKE, "build", *project], RUNS, fresh("data/lake"))),
            ("`lake build` with nothing to do", measure([LAKE, "build", *project], RUNS)),
            ("`lake compile`", measure([LAKE, "compile", *project], RUNS)),
            ("bare engine, the first build's queries alone",
             measure([bare_engine(), str(folder / "data/bronze"), str(folder / "out")], RUNS, fresh("out"))),
        ]
    print(f"{platform.machine()}, {os.cpu_count()} cores, medians of {RUNS}\n")
    print("| whole process | wall | peak memory |\n| --- | --- | --- |")
    for name, (wall, peak) in rows:
        print(f"| {name} | {wall:.0f} ms | {peak:.0f} MB |")


if __name__ == "__main__":
    main()
