"""Imports the DAG files of a folder as Airflow does, and prints what it found in them."""

import json
import shlex
import sys

from airflow.dag_processing.dagbag import DagBag
from jinja2 import Template

bag = DagBag(dag_folder=sys.argv[1])


def task(found):
    return {
        # What a shell gets when Airflow has rendered the template.
        "command": shlex.split(Template(found.bash_command).render()),
        "is_a_file": not found._is_inline_command(found.bash_command),
        "after": sorted(found.upstream_task_ids),
        "tables": [asset.uri for asset in found.outlets],
        "owner": found.owner,
        "retries": found.retries,
        "doc": found.doc_md,
        "shown_as": found.task_display_name,
    }


def dag(found):
    timetable = found.timetable
    condition = getattr(timetable, "asset_condition", None)
    time = getattr(timetable, "timetable", timetable)
    return {
        "time": getattr(time, "_expression", None) or getattr(time, "expression", None),
        "waits_for": sorted(asset.uri for asset in condition.objects) if condition else [],
        "tags": sorted(found.tags),
        "tasks": {name: task(found) for name, found in found.task_dict.items()},
    }


print("RESULT " + json.dumps({"errors": bag.import_errors, "dags": {name: dag(found) for name, found in bag.dags.items()}}, sort_keys=True))
