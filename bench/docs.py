"""What the documentation site of a project costs: `lake docs generate`, with a lake and without one, and its size.

    cargo build --release
    python3 bench/docs.py [N ...]
"""

import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from measure import LAKE, ROOT, measure


def project(folder, count):
    """The project of bench/generate.py, with three small files for each of its sources."""
    subprocess.run([sys.executable, str(ROOT / "bench" / "generate.py"), str(count), str(folder)], check=True)
    rng = random.Random(count)
    for source in range(50):
        home = folder / "bronze" / f"events_{source}"
        home.mkdir(parents=True)
        for file in range(3):
            rows = "".join(
                f"{rng.randrange(1000)},{rng.random() * 100:.2f},2026-01-{1 + rng.randrange(28):02} 10:00:00,{rng.choice('abc')}\n"
                for _ in range(100)
            )
            (home / f"{file}.csv").write_text("id,amount,happened_at,kind\n" + rows)


def main():
    print("| models | without a lake | with a lake | page | with a lake |\n| --- | --- | --- | --- | --- |")
    for count in [int(text) for text in sys.argv[1:]] or [10, 100, 1000]:
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="lake-bench-docs-"))
        folder = scratch / "project"
        project(folder, count)
        page = folder / "page.html"
        generate = [LAKE, "--project-dir", str(folder), "docs", "generate", "--path", str(page)]
        bare, _ = measure(generate, 5)
        small = page.stat().st_size
        for _ in range(3):
            subprocess.run([LAKE, "--project-dir", str(folder), "build", "-q", "--force"], check=True, stdout=subprocess.DEVNULL)
        full, peak = measure(generate, 5)
        sizes = (small / 1e6, page.stat().st_size / 1e6)
        print(f"| {count:,} | {bare:.0f} ms | {full:.0f} ms, {peak:.0f} MB | {sizes[0]:.2f} MB | {sizes[1]:.2f} MB |")
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
