"""Times how files are taken in, as whole processes with their peak memory.

    cargo build --release && cargo bench --no-run && python3 bench/bronze.py [--files 100000] [--gb 1] [--runs 3]

--files N: a source of N small CSV files in folders of days, a column of which is the day. --gb N: a folder of CSV files
of N GB with every common type and empty values, as a typed Delta table; beside it, in the same run, a bare DataFusion
program casts the same files to Parquet (benches/bare_engine.rs). 0 leaves a part out; --bin is another build of `lake`,
with `bare_engine` in its `deps/`; --folder is where the files are written (and taken away again).
"""

import argparse
import datetime
import os
import pathlib
import platform
import random
import shutil
import subprocess
import tempfile

from measure import LAKE, bare_engine, measure, once

PER_DAY = 1000
FILE_BYTES = 256 << 20
COLUMNS = {
    "id": "bigint",
    "amount": "double",
    "price": "decimal(18,2)",
    "happened_at": "timestamp",
    "day": "date",
    "city": "varchar",
    "note": "varchar",
}


def project(folder, source):
    """A project with one source and one model that appends its rows."""
    (folder / "models/silver").mkdir(parents=True)
    (folder / "project.yml").write_text("name: bronze\ntargets:\n  dev: { root: lake }\n")
    (folder / "sources.yml").write_text(f"sources:\n  - name: raw\n    tables:\n      - {source}\n")
    (folder / "models/silver/views.sql").write_text(
        "{{ config(materialized='incremental') }}\nselect * from {{ source('raw', 'views') }}\n"
    )


def declared(columns):
    return ", ".join(f"{{ name: {name}, data_type: '{data_type}' }}" for name, data_type in columns.items())


def small_files(folder, numbers):
    for number in numbers:
        day = datetime.date(2024, 1, 1) + datetime.timedelta(days=number // PER_DAY)
        path = folder / f"files/day={day}/{number:07d}.csv"
        if number % PER_DAY == 0 or not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"user_id,course_id\nu{number},{number % 97}\nu{number + 1},{number % 89}\n")


def backlog(lake, count, runs, parent):
    folder = parent / "backlog"
    columns = declared({"user_id": "varchar", "course_id": "bigint"})
    source = f"{{ name: views, path: files/, format: csv, partition_columns: [{{ name: day, data_type: date }}], columns: [{columns}] }}"
    project(folder, source)
    small_files(folder, range(count))
    here = ["--project-dir", str(folder)]
    arrived = iter(range(count, 2**31, 100))

    def arrive(run):
        start = next(arrived)
        small_files(folder, range(start, start + 100))

    listing = [lake, "source", "files", "raw.views", "--pending", *here]
    rows = [
        ("plan of the first build: list, diff, print", measure(listing, runs)),
        ("first build", once([lake, "build", *here])),
        ("build with nothing to do", measure([lake, "build", *here], runs)),
        ("plan with nothing to do", measure(listing, runs)),
        ("build of 100 new files", measure([lake, "build", *here], runs, arrive)),
        ("full refresh", once([lake, "build", "--full-refresh", *here])),
    ]
    print(f"\n| source of {count:,} files | wall | peak memory |\n| --- | --- | --- |")
    for name, (wall, peak) in rows:
        print(f"| {name} | {wall / 1000:,.2f} s | {peak:,.0f} MB |", flush=True)


def block():
    """About 32 MB of rows, of which each value is missing now and then."""
    rng = random.Random(1)
    start, lines = datetime.datetime(2024, 1, 1), []
    cities = [f"city {number}" for number in range(2000)]
    for number in range(380_000):
        moment = start + datetime.timedelta(seconds=rng.randrange(80_000_000))
        values = [
            str(number),
            repr(rng.random() * 1000),
            f"{rng.randrange(10_000_000) / 100:.2f}",
            str(moment),
            str(moment.date()),
            rng.choice(cities),
            f"note {rng.randrange(1 << 40):x}",
        ]
        if rng.random() < 0.2:
            values[rng.randrange(1, len(values))] = ""
        lines.append(",".join(values))
    return ("\n".join(lines) + "\n").encode()


def big_files(folder, size):
    """Files of 256 MB and a smaller last one; returns their bytes."""
    folder.mkdir()
    header, rows, written = (",".join(COLUMNS) + "\n").encode(), block(), 0
    while written < size:
        with open(folder / f"part_{written // FILE_BYTES:05d}.csv", "wb") as file:
            file.write(header)
            while file.tell() < FILE_BYTES and written + file.tell() < size:
                # The last block of the last file ends with a whole row.
                left = min(size - written - file.tell(), len(rows))
                end = len(rows) if left == len(rows) else rows.index(b"\n", max(0, left - 1)) + 1
                file.write(rows[:end])
            written += file.tell()
    return written


def throughput(lake, engine, gigabytes, runs, parent):
    folder = parent / "throughput"
    project(folder, f"{{ name: views, path: files/, format: csv, columns: [{declared(COLUMNS)}] }}")
    size = big_files(folder / "files", int(gigabytes * 1e9))

    def fresh(name):
        return lambda run: shutil.rmtree(folder / name, ignore_errors=True)

    build = [lake, "build", "--project-dir", str(folder)]
    copy = [engine, "copy", f"{folder / 'files'}/", f"{folder / 'copy'}/"]
    taken = measure(build, runs, fresh("lake"))
    shutil.rmtree(folder / "lake")
    bare = measure(copy, runs, fresh("copy"))
    print(f"\n| {size / 1e9:,.2f} GB of CSV | wall | MB/s | peak memory |\n| --- | --- | --- | --- |")
    for name, (wall, peak) in [("`lake build` to typed Delta", taken), ("engine alone, `copy` to Parquet", bare)]:
        print(f"| {name} | {wall / 1000:,.2f} s | {size / wall / 1000:,.0f} | {peak:,.0f} MB |")
    print(f"\n`lake` has {100 * bare[0] / taken[0]:.0f} % of the engine's throughput.", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--gb", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bin", default=LAKE)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    version = subprocess.run([options.bin, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"{version}, {platform.machine()}, {os.cpu_count()} cores, medians of {options.runs}")
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        parent = pathlib.Path(parent)
        if options.files:
            backlog(options.bin, options.files, options.runs, parent)
        if options.gb:
            engine = bare_engine(pathlib.Path(options.bin).parent)
            throughput(options.bin, engine, options.gb, options.runs, parent)


if __name__ == "__main__":
    main()
