"""TPC-H as a lake: eight bronze folders, eight silver tables, 22 gold tables, all Delta, with and without tests.

    cargo build --release && cargo bench --no-run && pip install tpchgen-cli
    python3 bench/tpch.py [--scale 1] [--format csv|parquet] [--memory 2GB] [--runs 5]

Beside it, in the same run, a bare DataFusion program does the same SQL one after another and copies each result to Parquet
(benches/bare_engine.rs). --data keeps the generated files; --folder is where the lakes are written.
"""

import argparse
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile

from measure import LAKE, ROOT, bare_engine, once

TABLES = {
    "region": "r_regionkey bigint, r_name varchar, r_comment varchar",
    "nation": "n_nationkey bigint, n_name varchar, n_regionkey bigint, n_comment varchar",
    "supplier": "s_suppkey bigint, s_name varchar, s_address varchar, s_nationkey bigint, s_phone varchar, "
    "s_acctbal decimal(15,2), s_comment varchar",
    "part": "p_partkey bigint, p_name varchar, p_mfgr varchar, p_brand varchar, p_type varchar, p_size int, "
    "p_container varchar, p_retailprice decimal(15,2), p_comment varchar",
    "partsupp": "ps_partkey bigint, ps_suppkey bigint, ps_availqty int, ps_supplycost decimal(15,2), ps_comment varchar",
    "customer": "c_custkey bigint, c_name varchar, c_address varchar, c_nationkey bigint, c_phone varchar, "
    "c_acctbal decimal(15,2), c_mktsegment varchar, c_comment varchar",
    "orders": "o_orderkey bigint, o_custkey bigint, o_orderstatus varchar, o_totalprice decimal(15,2), o_orderdate date, "
    "o_orderpriority varchar, o_clerk varchar, o_shippriority int, o_comment varchar",
    "lineitem": "l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber int, l_quantity decimal(15,2), "
    "l_extendedprice decimal(15,2), l_discount decimal(15,2), l_tax decimal(15,2), l_returnflag varchar, "
    "l_linestatus varchar, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct varchar, "
    "l_shipmode varchar, l_comment varchar",
}
KEYS = {
    "region": ["r_regionkey"],
    "nation": ["n_nationkey"],
    "supplier": ["s_suppkey"],
    "part": ["p_partkey"],
    "partsupp": ["ps_partkey", "ps_suppkey"],
    "customer": ["c_custkey"],
    "orders": ["o_orderkey"],
    "lineitem": ["l_orderkey", "l_linenumber"],
}


def columns(table):
    return [tuple(part.split(" ", 1)) for part in re.split(r", (?=\w+ )", TABLES[table])]


def queries():
    text = (ROOT / "bench" / "tpch.sql").read_text()
    return dict(re.findall(r"-- (q\d\d)\n(.*?;)\n", text, re.S))


def generate(folder, scale, kind):
    if not folder.exists():
        tool = shutil.which("tpchgen-cli") or shutil.which("tpchgen-cli", path=pathlib.Path(__import__("sys").executable).parent)
        subprocess.run([tool, kind, "-s", str(scale), "--parts", str(max(2, int(scale) * 2)), "-o", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def project(folder, data, kind, memory):
    """The lake, with its bronze files where they are."""
    (folder / "models/silver").mkdir(parents=True)
    (folder / "models/gold").mkdir()
    limit = f", memory: {memory}" if memory else ""
    (folder / "project.yml").write_text(
        f"name: tpch\ntarget: dev\ntargets: {{ dev: {{ root: lake{limit} }} }}\n"
        "models: { +materialized: table }\n"
    )
    tables = ""
    for name in TABLES:
        tables += f"      - name: {name}\n        path: {data}/{name}/\n        format: {kind}\n        columns:\n"
        tables += "".join(f"          - {{ name: {column}, data_type: '{kind}' }}\n" for column, kind in columns(name))
        (folder / f"models/silver/{name}.sql").write_text(
            f"select {', '.join(column for column, _ in columns(name))} from {{{{ source('bronze', '{name}') }}}}\n"
        )
    (folder / "sources.yml").write_text(f"sources:\n  - name: bronze\n    tables:\n{tables}")
    for name, sql in queries().items():
        sql = re.sub(r"\b(from|,|join)(\s+)(%s)\b(?!\.)" % "|".join(TABLES), r"\1\2{{ ref('\3') }} as \3", sql)
        sql = re.sub(r" as (\w+) (n1|n2|l1|l2|l3)\b", r" as \2", sql)
        (folder / f"models/gold/{name}.sql").write_text(sql)
    models = ""
    for name, keys in KEYS.items():
        models += f"  - name: {name}\n"
        if len(keys) > 1:
            models += f"    data_tests: [{{ dbt_utils.unique_combination_of_columns: {{ combination_of_columns: {keys} }} }}]\n"
        tests = "not_null" if len(keys) > 1 else "not_null, unique"
        models += "    columns:\n" + "".join(f"      - {{ name: {key}, data_tests: [{tests}] }}\n" for key in keys)
    (folder / "models/silver.yml").write_text(f"models:\n{models}")


def engine_statements(data, kind, out):
    """What the bare engine runs: the same silver and gold, one after another."""
    lines = []
    for name in TABLES:
        options = " options ('format.has_header' 'true')" if kind == "csv" else ""
        declared = "(" + ", ".join(f"{column} {data_type}" for column, data_type in columns(name)) + ")" if kind == "csv" else ""
        lines.append(f"create external table bronze_{name} {declared} stored as {kind} location '{data}/{name}/'{options}")
        chosen = ", ".join(f"cast({column} as {data_type}) as {column}" for column, data_type in columns(name))
        lines.append(f"copy (select {chosen} from bronze_{name}) to '{out}/{name}/' stored as parquet")
        lines.append(f"create external table {name} stored as parquet location '{out}/{name}/'")
    for name, sql in queries().items():
        lines.append(f"copy ({sql.rstrip().rstrip(';')}) to '{out}/{name}/' stored as parquet")
    return ";\n".join(line.replace("\n", " ") for line in lines)


def build(data, kind, memory, runs, lake, parent):
    """The rows of the table: bare engine, `lake run`, `lake build`."""
    out, folder = parent / "out", parent / "lake"
    script = parent / "engine.sql"
    script.write_text(engine_statements(data, kind, out))

    def clean():
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        project(folder, data, kind, memory)

    here = ["--project-dir", str(folder)]
    commands = {
        "engine alone": [bare_engine(pathlib.Path(lake).parent), "sql", str(script)],
        "`lake run`, no tests": [lake, "run", *here],
        "`lake build`, with tests": [lake, "build", *here],
        "`lake build` again": [lake, "build", *here],
    }
    found = {name: [] for name in commands}
    # In turn, so that an hour in which the machine is slow is slow for all.
    for _ in range(runs):
        for name, command in commands.items():
            if not name.endswith("again"):
                clean()
            found[name].append(once(command))
    return [(name, tuple(statistics.median(values) for values in zip(*known))) for name, known in found.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--memory", help="of the lake, such as 2GB; the engine has no limit, for its hash joins do not spill")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bin", default=LAKE)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        scratch = pathlib.Path(scratch)
        data = generate((options.data or scratch) / f"{options.format}-{options.scale:g}", options.scale, options.format)
        rows = build(data, options.format, options.memory, options.runs, options.bin, scratch)
        print(f"\n| TPC-H {options.scale:g}, {options.format} | wall | beside the engine | peak memory |\n| --- | --- | --- | --- |")
        for name, (wall, peak) in rows:
            print(f"| {name} | {wall / 1000:,.2f} s | {wall / rows[0][1][0]:.2f} | {peak:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
