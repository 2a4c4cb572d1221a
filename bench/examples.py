"""The lakes of `examples/` and the one in the root: built from nothing, and built again with nothing to do.

    cargo build --release
    python3 bench/examples.py [--runs 5]
"""

import argparse
import pathlib
import shutil
import tempfile

from measure import LAKE, ROOT, measure

LAKES = ["courses", "movies", "vehicles", "customers", "listening"]


def copied(name, to):
    """A copy of the project, without what a build has left in it."""
    folder = ROOT if name == "courses" else ROOT / "examples" / name
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for part in ["project.yml", "sources.yml", "models", "macros", "seeds", "data", "tests"]:
        here = folder / part
        if here.is_dir():
            rust = shutil.ignore_patterns("it", "lake", "lake_prod", ".lake")
            shutil.copytree(here, to / part, ignore=rust)
        elif here.exists():
            shutil.copy(here, to / part)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print("| lake | from nothing | peak memory | nothing new |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        for name in LAKES:
            folder = pathlib.Path(scratch) / name
            command = [LAKE, "build", "--project-dir", str(folder)]
            first, peak = measure(command, options.runs, lambda _, name=name, folder=folder: copied(name, folder))
            again, _ = measure(command, options.runs)
            print(f"| {name} | {first / 1000:.2f} s | {peak:,.0f} MB | {again / 1000:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
