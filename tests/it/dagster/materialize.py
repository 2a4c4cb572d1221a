"""Materializes the assets of a definitions file, all or some, and prints what Dagster has noted of each run."""

import importlib.util
import json
import sys

import dagster as dg

spec = importlib.util.spec_from_file_location("definitions", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
job = module.defs.get_implicit_global_asset_job_def()
graph = module.defs.resolve_asset_graph()


def name(key):
    return "/".join(key.path)


def run(instance, selection):
    chosen = selection and [dg.AssetKey(key.split("/")) for key in selection]
    found = job.execute_in_process(instance=instance, asset_selection=chosen, raise_on_error=False)
    events = found.get_asset_materialization_events()
    checks = found.get_asset_check_evaluations()
    return {
        "success": found.success,
        "assets": {
            name(event.asset_key): {
                "version": event.materialization.tags.get("dagster/data_version"),
                "rows": event.materialization.metadata["rows"].value if "rows" in event.materialization.metadata else None,
            }
            for event in events
        },
        "checks": {
            f"{name(check.asset_key)} {check.check_name}": ("passed" if check.passed else "failed", check.severity.value)
            for check in checks
        },
    }


with dg.DagsterInstance.ephemeral() as instance:
    runs = [run(instance, json.loads(selection)) for selection in sys.argv[2:]]
specs = {
    name(spec.key): {"deps": sorted(name(dep.asset_key) for dep in spec.deps), "group": spec.group_name, "doc": spec.description}
    for asset in module.defs.assets
    for spec in (asset.specs if isinstance(asset, dg.AssetsDefinition) else [asset])
}
print("RESULT " + json.dumps({"assets": specs, "runs": runs}))
