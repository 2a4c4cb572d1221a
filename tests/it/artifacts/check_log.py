"""Holds the lines of a log against the messages that dbt's own events are made of: every field is known and has its type.
Prints each event's name with the id of its node."""

import json
import sys

from dbt.events import types as core
from dbt_common.events import types as common
from google.protobuf.json_format import ParseDict

OWN = {"Diagnostic", "Report"}

for line in sys.stdin:
    event = json.loads(line)
    name = event["info"]["name"]
    known = getattr(core, name, None) or getattr(common, name, None)
    if name not in OWN:
        assert known is not None, f"dbt has no event {name}"
        event["data"].pop("lake", None)
        message = ParseDict(event, getattr(known.PROTO_TYPES_MODULE, f"{name}Msg")())
        assert known.code(None) == message.info.code, f"{name} has the code {message.info.code}"
        assert message.info.level in ("debug", "info", "warn", "error"), message.info.level
    assert event["info"]["msg"] and "\n" not in event["info"]["ts"], line
    print(name, event["data"].get("node_info", {}).get("unique_id", ""))
