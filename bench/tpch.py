"""TPC-H as a lake: eight bronze folders, eight silver tables, 22 gold tables, all Delta, with and without tests.

    cargo build --release && cargo bench --no-run && pip install tpchgen-cli
    python3 bench/tpch.py [--scale 1] [--format csv|parquet] [--memory 2GB] [--runs 5] [--tests-only]

Beside it, in the same run, a bare DataFusion program does the same SQL one after another and copies each result to Parquet
(benches/bare_engine.rs). --data keeps the generated files; --folder is where the lakes are written.
"""

import argparse
import os
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

# Beside NOT NULL on every column, and the keys: 120 tests in all.
REFERENCES = {
    "nation": {"n_regionkey": ("region", "r_regionkey")},
    "supplier": {"s_nationkey": ("nation", "n_nationkey")},
    "customer": {"c_nationkey": ("nation", "n_nationkey")},
    "partsupp": {"ps_partkey": ("part", "p_partkey"), "ps_suppkey": ("supplier", "s_suppkey")},
    "orders": {"o_custkey": ("customer", "c_custkey")},
    "lineitem": {"l_orderkey": ("orders", "o_orderkey"), "l_partkey": ("part", "p_partkey"), "l_suppkey": ("supplier", "s_suppkey")},
}
VALUES = {
    "region": {"r_name": ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"]},
    "customer": {"c_mktsegment": ["AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY"]},
    "orders": {"o_orderstatus": ["F", "O", "P"], "o_orderpriority": ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]},
    "lineitem": {
        "l_returnflag": ["A", "N", "R"],
        "l_linestatus": ["F", "O"],
        "l_shipmode": ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"],
        "l_shipinstruct": ["COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"],
    },
}
RANGES = {
    "part": {"p_size": (1, 50), "p_retailprice": (0, 3000)},
    "partsupp": {"ps_availqty": (1, 9999), "ps_supplycost": (0, 1000)},
    "orders": {"o_totalprice": (0, None)},
    "lineitem": {"l_quantity": (1, 50), "l_extendedprice": (0, None), "l_discount": (0, 0.1), "l_tax": (0, 0.08), "l_linenumber": (1, 7)},
}
EXPRESSIONS = {
    "lineitem": ["l_shipdate < l_receiptdate", "l_extendedprice >= l_quantity"],
    "orders": ["o_orderdate between date '1992-01-01' and date '1998-12-31'"],
}
# Of gold: what its queries prove.
PROVED = {
    "q01": (["l_returnflag", "l_linestatus"], ["count_order"]),
    "q03": (["l_orderkey", "o_orderdate", "o_shippriority"], []),
    "q04": (["o_orderpriority"], ["order_count"]),
    "q05": (["n_name"], []),
    "q07": (["supp_nation", "cust_nation", "l_year"], []),
    "q08": (["o_year"], []),
    "q09": (["nation", "o_year"], []),
    "q10": (["c_custkey", "c_name", "c_acctbal", "c_phone", "n_name", "c_address", "c_comment"], []),
    "q11": (["ps_partkey"], []),
    "q12": (["l_shipmode"], []),
    "q13": (["c_count"], ["custdist"]),
    "q16": (["p_brand", "p_type", "p_size"], ["supplier_cnt"]),
    "q18": (["c_name", "c_custkey", "o_orderkey", "o_orderdate", "o_totalprice"], []),
    "q21": (["s_name"], ["numwait"]),
    "q22": (["cntrycode"], ["numcust"]),
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


def project(folder, data, kind, memory, proved_only=False):
    """The lake, with its bronze files where they are; with all tests, or those that the plans of its models prove."""
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
    models = "" if proved_only else "".join(model_tests(name) for name in TABLES)
    models += "".join(proved_tests(name) for name in PROVED)
    (folder / "models/tests.yml").write_text(f"models:\n{models}")


def model_tests(name):
    """What a silver table is tested for, as YAML."""
    keys = KEYS[name]
    lines = [f"  - name: {name}", "    data_tests:"]
    if len(keys) > 1:
        lines.append(f"      - dbt_utils.unique_combination_of_columns: {{ combination_of_columns: {keys} }}")
    lines += [f"      - expression_is_true: {{ expression: \"{sql}\" }}" for sql in EXPRESSIONS.get(name, [])]
    lines.append("    columns:")
    for column, _ in columns(name):
        tests = ["not_null"] + (["unique"] if keys == [column] else [])
        if column in REFERENCES.get(name, {}):
            tests.append("relationships: {{ to: ref('{}'), field: {} }}".format(*REFERENCES[name][column]))
        if column in VALUES.get(name, {}):
            tests.append(f"accepted_values: {{ values: {VALUES[name][column]} }}")
        if column in RANGES.get(name, {}):
            low, high = RANGES[name][column]
            tests.append(f"accepted_range: {{ min_value: {low}" + (f", max_value: {high}" if high is not None else "") + " }")
        lines += [f"      - name: {column}", "        data_tests:"] + [f"          - {test}" for test in tests]
    return "\n".join(line for line in lines if not (line == "    data_tests:" and lines[2] == "    columns:")) + "\n"


def proved_tests(name):
    keys, counts = PROVED[name]
    unique = f"    data_tests: [{{ unique_combination_of_columns: {{ columns: {keys} }} }}]\n"
    return f"  - name: {name}\n{unique}" + ("    columns:\n" if counts else "") + "".join(
        f"      - {{ name: {count}, data_tests: [not_null] }}\n" for count in counts
    )


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


def build(data, kind, memory, runs, lake, parent, tests_only):
    """The rows of the table: bare engine, `lake run` unless only builds with tests count, `lake build`."""
    out, folder = parent / "out", parent / "lake"
    script = parent / "engine.sql"
    script.write_text(engine_statements(data, kind, out))

    def clean(proved_only):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        project(folder, data, kind, memory, proved_only)

    here = ["--project-dir", str(folder)]
    commands = {
        "engine alone": [bare_engine(pathlib.Path(lake).parent), "sql", str(script)],
        "`lake run`, no tests": [lake, "run", *here],
        "`lake build`, provable tests": [lake, "build", *here],
        "`lake build`, 120 tests": [lake, "build", *here],
        "`lake build` again": [lake, "build", *here],
        "`lake test`": [lake, "test", *here],
    }
    if tests_only:
        del commands["`lake run`, no tests"], commands["`lake build`, provable tests"]
    found = {name: [] for name in commands}
    # In turn, so that an hour in which the machine is slow is slow for all.
    for _ in range(runs):
        for name, command in commands.items():
            if name not in ("`lake build` again", "`lake test`"):
                clean(proved_only="provable" in name)
                # What the command before has left to be written is not this one's.
                os.sync()
            found[name].append(once(command))
            # A long run that is cut off has told what it found.
            wall, peak = found[name][-1]
            print(f"{name}: {wall / 1000:,.2f} s, {peak:,.0f} MB", flush=True)
    return [(name, tuple(statistics.median(values) for values in zip(*known))) for name, known in found.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--memory", help="of the lake, such as 2GB; the engine has no limit, for its hash joins do not spill")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tests-only", action="store_true", help="leave `lake run` out")
    parser.add_argument("--bin", default=LAKE)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        scratch = pathlib.Path(scratch)
        data = generate((options.data or scratch) / f"{options.format}-{options.scale:g}", options.scale, options.format)
        rows = build(data, options.format, options.memory, options.runs, options.bin, scratch, options.tests_only)
        print(f"\n| TPC-H {options.scale:g}, {options.format} | wall | beside the engine | peak memory |\n| --- | --- | --- | --- |")
        for name, (wall, peak) in rows:
            print(f"| {name} | {wall / 1000:,.2f} s | {wall / rows[0][1][0]:.2f} | {peak:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
