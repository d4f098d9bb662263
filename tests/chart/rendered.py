"""The files that are made: manifests for reviewers and for `kubectl apply`, the schema's part for `config`.

`make chart` writes them; a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.chart.helm_command import CHART, NAMESPACE, ROOT, VALUE_FILES, VALUES, render
from tests.chart.schema import config_schema

MANIFEST = ROOT / "deploy" / "wirespan.yaml"
SCHEMA = CHART / "values.schema.json"
GOLDENS = ROOT / "tests" / "chart" / "goldens"

_PREAMBLE = f"""\
# wirespan on every node, for `kubectl apply -f`. Made of charts/wirespan by `make chart`.
#
# The image is yours to build and push: name it in the DaemonSet. The ConfigMap holds the agent's
# configuration; after a change there, `kubectl -n {NAMESPACE} rollout restart daemonset/wirespan`.
---
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    # hostPID, and capabilities beyond those of `baseline`.
    pod-security.kubernetes.io/enforce: privileged
"""
_OF_HELM = (
    "helm.sh/chart:",
    "app.kubernetes.io/managed-by:",
    "checksum/config:",
    "# The agent reads its configuration once",
    "# Source:",
)
"""Lines that only hold, or only say something, when Helm manages the objects."""


def manifest() -> str:
    """Return what `kubectl apply` takes."""
    lines = render(VALUES / "manifest.yaml").splitlines(keepends=True)
    return _PREAMBLE + "".join(line for line in lines if not line.strip().startswith(_OF_HELM))


def values_schema() -> str:
    """Return the schema of the chart's values with the present keys of the agent."""
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["config"] = config_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def files() -> dict[Path, str]:
    """Return the content that each file should have."""
    goldens = {GOLDENS / f"{name}.yaml": render(file) for name, file in VALUE_FILES.items()}
    return {SCHEMA: values_schema(), MANIFEST: manifest(), **goldens}


if __name__ == "__main__":
    # The schema first: what is rendered has to pass it.
    SCHEMA.write_text(values_schema())
    for path, content in files().items():
        path.write_text(content)
