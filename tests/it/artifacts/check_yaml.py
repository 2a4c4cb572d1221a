"""Validates YAML files by JSON Schemas: arguments are pairs of a schema and a file; prints what is wrong with each."""

import json
import sys
from pathlib import Path

import yaml
from jsonschema.validators import validator_for


class Loader(yaml.SafeLoader):
    """YAML 1.2, as editors and `lake` read it: `on` is a text, and so is a date."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":")[-1] in ("int", "float", "null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", __import__("re").compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

found = {}
arguments = sys.argv[1:]
for schema, path in zip(arguments[::2], arguments[1::2]):
    schema = json.loads(Path(schema).read_text())
    validator = validator_for(schema)
    validator.check_schema(schema)
    errors = sorted(validator(schema).iter_errors(yaml.load(Path(path).read_text(), Loader)), key=lambda e: str(e.path))
    found[path] = [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:400]}" for error in errors]
print(json.dumps(found))
