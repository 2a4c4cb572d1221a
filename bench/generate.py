"""Writes a layered project of N models, to measure the compiler: python3 bench/generate.py 10000 /tmp/big

Each model has a config block, one to three refs (or a source, in the first layer), a variable, a macro call, and
YAML with its columns and two tests. Always the same project for the same N.
"""

import pathlib
import random
import sys

LAYERS = ["staging", "silver", "gold", "mart"]


def model_sql(rng, index, parents):
    reads = "{{ source('bronze', 'events_%d') }}" % (index % 50) if not parents else "{{ ref('%s') }}" % parents[0]
    joins = "".join(
        "\nleft join {{ ref('%s') }} as j%d on j%d.id = base.id" % (name, at, at)
        for at, name in enumerate(parents[1:], start=1)
    )
    return (
        "{{ config(materialized='%s', tags=['t%d']) }}\n\n" % (rng.choice(["table", "view"]), index % 7)
        + "with base as (\n    select id, amount, happened_at, kind\n    from %s\n    where amount >= {{ var('min_amount') }}\n),\n\n" % reads
        + "numbered as (\n    select base.*, row_number() over (partition by base.kind order by base.happened_at) as n\n"
        + "    from base%s\n)\n\n" % joins
        + "select\n    id,\n    sum(amount) as amount,\n    max(happened_at) as happened_at,\n"
        + "    {{ bucket('max(kind)') }} as kind,\n    count(*) as n\nfrom numbered\ngroup by id\n"
    )


def main():
    count, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    rng = random.Random(count)
    folder.mkdir(parents=True)
    (folder / "macros").mkdir()
    (folder / "project.yml").write_text("name: big\ntargets:\n  dev: { root: lake }\nvars: { min_amount: 0 }\n")
    (folder / "macros" / "bucket.sql").write_text(
        "{% macro bucket(column) -%}\ncase when {{ column }} is null then 'none' else lower({{ column }}) end\n{%- endmacro %}\n"
    )
    sources = "".join(
        "      - name: events_%d\n        path: bronze/events_%d/\n        format: csv\n        columns:\n"
        "          - { name: id, data_type: bigint }\n          - { name: amount, data_type: double }\n"
        "          - { name: happened_at, data_type: timestamp }\n          - { name: kind, data_type: varchar }\n" % (n, n)
        for n in range(50)
    )
    (folder / "sources.yml").write_text("sources:\n  - name: bronze\n    tables:\n" + sources)
    names = []
    for index in range(count):
        layer = min(len(LAYERS) - 1, index * len(LAYERS) // count)
        low = max(0, index - count // len(LAYERS))
        parents = [] if layer == 0 else sorted({names[rng.randrange(low, index)] for _ in range(rng.randint(1, 3))})
        name = f"m{index:05d}"
        home = folder / "models" / LAYERS[layer] / f"g{index // 100:03d}"
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{name}.sql").write_text(model_sql(rng, index, parents))
        (home / f"{name}.yml").write_text(
            f"models:\n  - name: {name}\n    description: Model {index} of the benchmark.\n    columns:\n"
            "      - name: id\n        description: The key.\n        data_tests: [not_null, unique]\n"
            "      - { name: amount, description: The sum. }\n      - { name: happened_at }\n      - { name: kind }\n"
            "      - { name: n }\n"
        )
        names.append(name)


if __name__ == "__main__":
    main()
