"""One per cent more rows in a table of six million, and 1,000 rows upserted into 50 million.

    cargo build --release && cargo bench --no-run && pip install tpchgen-cli
    python3 bench/growth.py [--runs 5] [--large]

The table is `lineitem` of TPC-H at scale factor 1, taken in from one delivery. 60,000 rows more are appended, or merged by
(l_orderkey, l_linenumber): keys that are all new, keys of one range, keys that are spread over the whole table. Each
measurement is a whole `lake build` on a fresh copy of the lake. --large makes the table of 50 million rows (about 1 GB of
disk) and upserts 1,000 rows of one range, and 1,000 that are spread. --data keeps the generated files.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile

from measure import LAKE, bare_engine, once
from tpch import columns, generate

KEY = ["l_orderkey", "l_linenumber"]


def run_sql(lake, folder, *statements):
    script = folder / "make.sql"
    script.write_text(";\n".join(statements))
    subprocess.run([bare_engine(pathlib.Path(lake).parent), "sql", str(script)], check=True, stdout=subprocess.DEVNULL)


def deliveries(lake, data, out):
    """What comes to `lineitem`: all columns as they are, but for the key or the comment."""
    names = [name for name, _ in columns("lineitem")]

    def rows(where, **changed):
        chosen = ", ".join(f"{changed[name]} as {name}" if name in changed else name for name in names)
        return f"select {chosen} from lineitem where {where}"

    run_sql(
        lake,
        out,
        f"create external table lineitem stored as parquet location '{data}/lineitem/'",
        f"copy ({rows('l_orderkey < 60000', l_orderkey='l_orderkey + 10000000')}) to '{out}/new.parquet'",
        f"copy ({rows('l_orderkey between 3000000 and 3060000', l_comment=repr('again'))}) to '{out}/near.parquet'",
        f"copy ({rows('(l_orderkey / 32) % 100 = 7', l_comment=repr('again'))}) to '{out}/spread.parquet'",
    )


def project(folder, name, fields, config):
    """A lake with one model that takes one source in."""
    (folder / "models/silver").mkdir(parents=True)
    (folder / "in").mkdir()
    (folder / "project.yml").write_text("name: growth\ntarget: dev\ntargets: { dev: { root: lake } }\n")
    declared = "".join(f"          - {{ name: {column}, data_type: '{kind}' }}\n" for column, kind in fields)
    (folder / "sources.yml").write_text(
        f"sources:\n  - name: raw\n    tables:\n      - name: {name}\n        path: in/\n        format: parquet\n        columns:\n{declared}"
    )
    chosen = ", ".join(column for column, _ in fields)
    (folder / f"models/silver/{name}.sql").write_text(
        f"{{{{ config(materialized='incremental', {config}) }}}}\nselect {chosen} from {{{{ source('raw', '{name}') }}}}\n"
    )


def build(lake, folder):
    return [lake, "build", "--project-dir", str(folder), "--output", "json"]


def rewritten(folder):
    """Files and bytes that the newest commit took away and wrote."""
    log = sorted(folder.glob("lake/silver/*/_delta_log/*.json"))[-1]
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    adds = [action["add"]["size"] for action in actions if "add" in action]
    return sum("remove" in action for action in actions), len(adds), sum(adds)


def measure(lake, base, delivery, runs):
    """Builds after a delivery, each of the lake as it is now, in its place: where files came from is part of the table."""
    found, kept = [], base.with_name("kept")
    base.rename(kept)
    for _ in range(runs):
        shutil.rmtree(base, ignore_errors=True)
        subprocess.run(["cp", "-a", str(kept), str(base)], check=True)
        shutil.copy(delivery, base / "in")
        found.append(once(build(lake, base)))
    times, peaks = zip(*found)
    removed, added, size = rewritten(base)
    shutil.rmtree(base)
    kept.rename(base)
    return statistics.median(times), statistics.median(peaks), removed, added, size


def table(title, rows):
    print(f"\n| {title} | wall | peak memory | files replaced | files written |\n| --- | --- | --- | --- | --- |")
    for name, (wall, peak, removed, added, size) in rows:
        print(f"| {name} | {wall / 1000:,.2f} s | {peak:,.0f} MB | {removed} | {added}, {size / 1e6:,.1f} MB |", flush=True)


def lineitem(options, scratch):
    data = generate((options.data or scratch) / "parquet-1", 1, "parquet")
    deliveries(options.bin, data, scratch)
    rows = []
    merge = f"unique_key={KEY}"
    for way, config, kinds in [
        ("append", "incremental_strategy='append'", ["new"]),
        ("merge", merge, ["new", "near", "spread"]),
        ("delete+insert", f"{merge}, incremental_strategy='delete+insert'", ["near"]),
    ]:
        base = scratch / "base"
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir()
        project(base, "lineitem", columns("lineitem"), config)
        for file in (data / "lineitem").iterdir():
            shutil.copy(file, base / "in")
        once(build(options.bin, base))
        words = {"new": "new keys", "near": "keys of one range", "spread": "keys of the whole table"}
        rows += [(f"{way}, {words[kind]}", measure(options.bin, base, scratch / f"{kind}.parquet", options.runs)) for kind in kinds]
        rows.append((f"{way}, nothing new", (*medians(options, base), 0, 0, 0)))
    table("6,000,000 rows, 60,000 more", rows)


def medians(options, base):
    times, peaks = zip(*[once(build(options.bin, base)) for _ in range(options.runs)])
    return statistics.median(times), statistics.median(peaks)


def large(options, scratch):
    base = scratch / "base"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    fields = [("id", "bigint"), ("customer", "bigint"), ("amount", "double"), ("note", "varchar")]
    project(base, "facts", fields, "unique_key='id'")

    def rows(series):
        return f"select value as id, value * 7919 % 1000003 as customer, value * 0.01 as amount, concat('note ', value % 1000) as note from {series}"

    run_sql(
        options.bin,
        scratch,
        f"copy ({rows('generate_series(1, 50000000)')}) to '{base}/in/all.parquet'",
        f"copy ({rows('generate_series(20000000, 20000999)')}) to '{scratch}/near.parquet'",
        f"copy ({rows('generate_series(1, 50000000, 50000)')}) to '{scratch}/spread.parquet'",
    )
    wall, peak = once(build(options.bin, base))
    names = [("keys of one range", "near"), ("keys of the whole table", "spread")]
    found = [(name, measure(options.bin, base, scratch / f"{kind}.parquet", options.runs)) for name, kind in names]
    table("50,000,000 rows, 1,000 upserted", [("first build", (wall, peak, 0, *rewritten(base)[1:])), *found])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--bin", default=LAKE)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        (large if options.large else lineitem)(options, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
