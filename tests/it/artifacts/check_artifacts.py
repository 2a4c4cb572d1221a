"""Validates artifacts by the schemas that dbt publishes, and reads them with dbt itself and a parser that others use."""

import json
import sys
from pathlib import Path

from dbt.artifacts.schemas.catalog import CatalogArtifact
from dbt.artifacts.schemas.freshness import FreshnessExecutionResultArtifact
from dbt.artifacts.schemas.manifest import WritableManifest
from dbt.artifacts.schemas.run import RunResultsArtifact
from dbt.contracts.graph.manifest import Manifest
from dbt_artifacts_parser import parser
from jsonschema import Draft202012Validator

folder, wanted = Path(sys.argv[1]), sys.argv[2:]
classes = {
    "manifest": WritableManifest,
    "run_results": RunResultsArtifact,
    "catalog": CatalogArtifact,
    "sources": FreshnessExecutionResultArtifact,
}
parsers = {
    "manifest": parser.parse_manifest_v12,
    "run_results": parser.parse_run_results_v6,
    "catalog": parser.parse_catalog_v1,
    "sources": parser.parse_sources_v3,
}


def best(error):
    """Of the alternatives of a node the one that fits best is told."""
    while error.context:
        error = max(error.context, key=lambda e: (len(e.absolute_path), len(e.absolute_schema_path)))
    return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


files, complaints = {}, []
for name in wanted:
    path = folder / f"{name}.json"
    files[name] = data = json.loads(path.read_text())
    artifact = classes[name]
    assert data["metadata"]["dbt_schema_version"] == str(artifact.dbt_schema_version), data["metadata"]
    for error in Draft202012Validator(artifact.json_schema()).iter_errors(data):
        complaints.append(f"{name}: {'/'.join(map(str, error.absolute_path))}: {best(error)}")
if complaints:
    sys.exit("\n".join(complaints[:20]))

found = {}
for name, data in files.items():
    parsers[name](data)
    read = classes[name].read_and_check_versions(str(folder / f"{name}.json"))
    if name == "manifest":
        # As `dbt --state` reads it.
        manifest = Manifest.from_writable_manifest(read)
        known = set(manifest.nodes) | set(manifest.sources) | set(manifest.exposures) | set(manifest.unit_tests)
        flowing = {node for node in known if not node.startswith("operation.")}
        assert set(read.parent_map) == set(read.child_map) == flowing, flowing ^ set(read.parent_map)
        for child, parents in read.parent_map.items():
            assert all(child in read.child_map[parent] for parent in parents), child
        for node in list(manifest.nodes.values()):
            assert all(other in known for other in getattr(node.depends_on, "nodes", [])), node.unique_id
            assert all(other in manifest.macros for other in node.depends_on.macros), node.unique_id
        found["parents"] = read.parent_map
    elif name == "run_results":
        results = {result.unique_id: result for result in read.results}
        assert len(results) == len(read.results), "two results of one node"
        if "manifest" in files:
            strangers = set(results) - set(files["manifest"]["nodes"]) - set(files["manifest"]["unit_tests"])
            assert not strangers, strangers
        found[name] = {unique_id: str(result.status.value) for unique_id, result in results.items()}
    elif name == "catalog":
        tables = read.nodes | read.sources
        found[name] = {
            unique_id: {
                "type": table.metadata.type,
                "columns": list(table.columns),
                "rows": table.stats["num_rows"].value if "num_rows" in table.stats else None,
            }
            for unique_id, table in tables.items()
        }
    else:
        found[name] = {result.unique_id: str(result.status.value) for result in read.results}
print(json.dumps(found))
