"""Times unit tests as whole processes: N tests of a hundred models over given rows, and some of whole chains.

    cargo build --release && python3 bench/unit.py [N ...]

Each model joins, filters and groups; a tenth of its tests give the sources only, so that the model before it runs too.
"""

import os
import pathlib
import platform
import shutil
import sys
import tempfile

from measure import LAKE, measure

RUNS = 5
MODELS = 100


def write(folder, tests):
    (folder / "models/silver").mkdir(parents=True)
    (folder / "models/gold").mkdir()
    (folder / "project.yml").write_text("name: units\ntargets:\n  dev: { root: lake }\n")
    columns = "[{ name: id, data_type: bigint }, { name: name, data_type: varchar }, { name: n, data_type: double }]"
    tables = "\n".join(f"      - {{ name: t{at}, path: bronze/t{at}/, format: csv, columns: {columns} }}"
                       for at in range(MODELS))
    (folder / "sources.yml").write_text(f"sources:\n  - name: bronze\n    tables:\n{tables}\n")
    per_model = tests // MODELS
    for at in range(MODELS):
        (folder / f"models/silver/s{at}.sql").write_text(
            f"select id, lower(trim(name)) as name, n from {{{{ source('bronze', 't{at}') }}}} where id is not null\n")
        (folder / f"models/gold/g{at}.sql").write_text(
            f"select a.name, count(*) as rows_count, sum(a.n) as total, max(b.n) as most\n"
            f"from {{{{ ref('s{at}') }}}} as a join {{{{ ref('s{(at + 1) % MODELS}') }}}} as b on a.id = b.id\n"
            f"group by a.name having count(*) > 0\n")
        cases = []
        for test in range(per_model):
            given = ["ref('s{}')", "source('bronze', 't{}')"][test % 10 == 9]
            rows = "[{ id: 1, name: a, n: 1.5 }, { id: 2, name: b, n: 2.5 }, { id: 1, name: a, n: 2 }]"
            cases.append(
                f"  - name: g{at}_{test}\n    model: g{at}\n    given:\n"
                f"      - {{ input: \"{given.format(at)}\", rows: {rows} }}\n"
                f"      - {{ input: \"{given.format((at + 1) % MODELS)}\", rows: [{{ id: 1, n: 7 }}] }}\n"
                f"    expect: {{ rows: [{{ name: a, rows_count: 2, total: 3.5, most: 7 }}] }}\n")
        (folder / f"models/gold/g{at}.yml").write_text("unit_tests:\n" + "".join(cases))


def main():
    print(f"{platform.machine()}, {os.cpu_count()} cores, medians of {RUNS}\n")
    print("| unit tests | first `lake test` | again | peak memory |\n| --- | --- | --- | --- |")
    for tests in [int(number) for number in sys.argv[1:]] or [1000]:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            write(folder, tests)
            call = [LAKE, "test", "--select", "test_type:unit", "--quiet", "--project-dir", str(folder)]
            cold, _ = measure(call, RUNS, lambda run: shutil.rmtree(folder / ".lake", ignore_errors=True))
            warm, peak = measure(call, RUNS)
            print(f"| {tests:,} | {cold:.0f} ms | {warm:.0f} ms | {peak:.0f} MB |")


if __name__ == "__main__":
    main()
