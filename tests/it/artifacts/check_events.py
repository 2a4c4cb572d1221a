"""Holds events of a file against the classes of OpenLineage's own client, which are generated from the specification:
every key is known, every value has its type, what is required is there, and each facet names its own schema."""

import enum
import json
import sys
import types
import typing
import uuid
from pathlib import Path

import attr
from dateutil import parser
from openlineage.client import event_v2, facet_v2
from openlineage.client.generated import base

FACETS = {
    value._get_schema(): value
    for module in vars(facet_v2).values()
    if isinstance(module, types.ModuleType)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, base.BaseFacet)
}
EVENTS = {event._get_schema(): event for event in (event_v2.RunEvent, event_v2.JobEvent)}
seen = set()


def name_of(field):
    return field.name if field.name.startswith("_") else field.alias


def check(expected, value, path):
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if expected is typing.Any:
        return
    if origin in (typing.Union, types.UnionType):
        assert value is not None, f"{path} is null: it is to be left out"
        return check(next(kind for kind in arguments if kind is not type(None)), value, path)
    if origin is dict:
        assert isinstance(value, dict), f"{path} is no mapping: {value}"
        for key, item in value.items():
            check(arguments[1], item, f"{path}/{key}")
    elif origin is list:
        assert isinstance(value, list), f"{path} is no list: {value}"
        for at, item in enumerate(value):
            check(arguments[0], item, f"{path}/{at}")
    elif attr.has(expected):
        check_object(expected, value, path)
    elif isinstance(expected, type) and issubclass(expected, enum.Enum):
        assert value in [item.value for item in expected], f"{path}: {value}"
    elif expected is float:
        assert isinstance(value, (int, float)) and not isinstance(value, bool), f"{path}: {value!r} is no number"
    else:
        fits = isinstance(value, expected) and (expected is bool or not isinstance(value, bool))
        assert fits, f"{path}: {value!r} is not of type {expected}"


def check_object(expected, value, path):
    assert isinstance(value, dict), f"{path} is no mapping: {value}"
    if issubclass(expected, base.BaseFacet):
        schema = value.get("_schemaURL")
        assert schema in FACETS, f"{path}: {schema} is the schema of no facet"
        assert issubclass(FACETS[schema], expected), f"{path}: {schema} is not of the kind {expected.__name__}"
        expected = FACETS[schema]
        seen.add(path.rsplit("/", 1)[-1])
    kinds = typing.get_type_hints(expected)
    fields = {name_of(field): field for field in attr.fields(expected)}
    unknown = set(value) - set(fields)
    assert not unknown, f"{path}: unknown {unknown}"
    for name, field in fields.items():
        if name in value:
            check(kinds[field.name], value[name], f"{path}/{name}")
        else:
            assert field.default is not attr.NOTHING, f"{path} has no {name}"


events = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
for at, event in enumerate(events):
    check_object(EVENTS[event["schemaURL"]], event, str(at))
    assert parser.isoparse(event["eventTime"]).tzinfo, event["eventTime"]
    if "run" in event:
        uuid.UUID(event["run"]["runId"])
print(json.dumps({"events": len(events), "facets": sorted(seen)}))
