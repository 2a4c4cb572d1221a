"""A lake project as Dagster assets: one asset per model and seed, one check per test.

    LAKE_PROJECT_DIR=/srv/courses dagster dev -f definitions.py

What Dagster materializes, `lake build` builds, in one process and in its own order; its events become Dagster's while it
runs. A version of a table is the data version of its asset, so a model that was skipped does not make anything stale.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path

import dagster as dg

PROJECT = Path(os.environ.get("LAKE_PROJECT_DIR", ".")).resolve()
# How lake is called, and on which target: LAKE_COMMAND="lake --target prod".
COMMAND = [*shlex.split(os.environ.get("LAKE_COMMAND", "lake")), "--project-dir", str(PROJECT)]


def read_manifest() -> dict:
    """What the compiler knows of the project."""
    subprocess.run([*COMMAND, "compile", "--quiet"], check=True)
    return json.loads((PROJECT / ".lake" / "manifest.json").read_text())


manifest = read_manifest()
project = manifest["metadata"]["project_name"]
models = {
    name: node
    for name, node in manifest["nodes"].items()
    if node["resource_type"] in ("model", "seed") and node["config"]["materialized"] != "ephemeral"
}


def key_of(node: dict) -> dg.AssetKey:
    return dg.AssetKey([node.get("source_name") or node["schema"], node["name"]])


def tables_of(name: str) -> set[dg.AssetKey]:
    """The assets that stand for a node: of an ephemeral model, those that it reads."""
    if name in models or name in manifest["sources"]:
        return {key_of(models.get(name) or manifest["sources"][name])}
    node = manifest["nodes"].get(name, {"depends_on": {"nodes": []}})
    return set().union(*(tables_of(parent) for parent in node["depends_on"]["nodes"]))


def model_of(test: dict) -> str | None:
    """The model that a test is about: the one it is declared on, else the last one that it reads."""
    read = [name for name in test["depends_on"]["nodes"] if name in models]
    return test.get("attached_node") if test.get("attached_node") in models else (read or [None])[-1]


assets = {key_of(node): name for name, node in models.items()}
tests = {name: node for name, node in manifest["nodes"].items() if node["resource_type"] == "test"}
tests |= manifest["unit_tests"]
# Tests of sources and macros belong to no asset: `lake test` runs them.
checks = {
    dg.AssetCheckKey(key_of(models[model]), test["name"]): name
    for name, test in tests.items()
    if (model := model_of(test))
}
check_of = {name: check for check, name in checks.items()}


def selection(context: dg.AssetExecutionContext) -> list[str]:
    """What is to be run: everything, or these models with their tests, or these tests alone."""
    if not context.is_subset:
        return ["build"]
    if context.selected_asset_keys:
        chosen = [models[assets[key]] for key in context.selected_asset_keys]
        return ["build", "--select", *sorted(f"{node['schema']}.{node['name']}" for node in chosen)]
    return ["test", "--select", *sorted(check.name for check in context.selected_asset_check_keys)]


@dg.multi_asset(
    name=f"lake_{project}",
    can_subset=True,
    specs=[
        dg.AssetSpec(
            key_of(node),
            deps=sorted(set().union(*(tables_of(parent) for parent in node["depends_on"]["nodes"]))),
            description=node["description"] or None,
            group_name=node["schema"],
            kinds={"lake", node["config"]["materialized"]},
            skippable=True,
        )
        for node in models.values()
    ],
    check_specs=[
        dg.AssetCheckSpec(check.name, asset=check.asset_key, description=tests[name].get("description") or None)
        for check, name in checks.items()
    ],
)
def lake_project(context: dg.AssetExecutionContext):
    command = [*COMMAND, *selection(context), "--log-format", "json"]
    context.log.info(shlex.join(command))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            for line in run.stdout:
                yield from results(context, json.loads(line))
        except BaseException:
            # A run that Dagster cancels ends as Ctrl-C ends it.
            run.terminate()
            raise
    if run.returncode:
        raise dg.Failure(f"lake ended with {run.returncode}; its events are above")


def results(context: dg.AssetExecutionContext, event: dict):
    """What an event of lake is in Dagster's words."""
    info, data = event["info"], event["data"]
    own = data.get("lake") or {}
    name = (data.get("node_info") or {}).get("unique_id")
    if info["level"] != "debug":
        {"warn": context.log.warning, "error": context.log.error}.get(info["level"], context.log.info)(info["msg"])
    if info["name"] in ("LogModelResult", "LogSeedResult") and data["node_info"]["node_status"] in ("success", "no-op"):
        shown = ("action", "reason", "rows", "bytes", "files_read", "version", "seconds")
        version = own.get("version")
        yield dg.MaterializeResult(
            asset_key=key_of(models[name]),
            data_version=None if version is None else dg.DataVersion(str(version)),
            metadata={field: own[field] for field in shown if own.get(field) is not None},
        )
    elif info["name"] == "LogTestResult" and check_of.get(name) in context.selected_asset_check_keys:
        warns = own.get("severity") == "warn" or data["status"] == "warn"
        yield dg.AssetCheckResult(
            asset_key=check_of[name].asset_key,
            check_name=check_of[name].name,
            passed=data["status"] == "pass",
            severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
            metadata={"failures": data.get("num_failures") or 0, "message": own.get("message") or info["msg"]},
        )


defs = dg.Definitions(
    assets=[lake_project, *(dg.AssetSpec(key_of(node)) for node in manifest["sources"].values())],
)
