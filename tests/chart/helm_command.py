"""Helm, and what it makes of the chart in this repository."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "wirespan"
VALUES = ROOT / "tests" / "chart" / "values"
BUILD_SCRIPT = ROOT / "scripts" / "build-go-program.sh"

RELEASE, NAMESPACE = "wirespan", "wirespan"

VALUE_FILES: dict[str, Path | None] = {
    "default": None,
    "gateway": CHART / "examples" / "gateway.yaml",
    "backends": CHART / "examples" / "backends.yaml",
    "everything": VALUES / "everything.yaml",
}
"""What is rendered for reviewers and tests."""

Document: TypeAlias = dict[str, Any]


class HelmError(Exception):
    """What helm said on standard error."""


def missing_parts() -> str | None:
    """Return what this machine lacks to run helm; None when nothing."""
    if binary().exists():
        return None
    return f"no helm at {binary()}: `make helm` builds it once, which needs Go"


@functools.cache
def binary() -> Path:
    given = os.environ.get("HELM")
    if given:
        return Path(given)
    found = subprocess.run([BUILD_SCRIPT, "helm", "--path"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def helm(*arguments: str, values: object = None, **environment: str) -> str:
    """Run helm, with `values` over the chart's, and return its output. Raises HelmError."""
    given = () if values is None else ("--values", "-")
    ended = subprocess.run(
        [binary(), *arguments, *given],
        input=None if values is None else json.dumps(values),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if ended.returncode != 0:
        raise HelmError(ended.stderr)
    return ended.stdout


def from_file(file: Path | None) -> tuple[str, ...]:
    return () if file is None else ("--values", str(file))


def render(file: Path | None = None, values: object = None) -> str:
    """Return the manifests of a release."""
    return helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *from_file(file), values=values)


def documents(manifests: str) -> list[Document]:
    return [each for each in yaml.safe_load_all(manifests) if each]


def one(rendered: list[Document], kind: str) -> Document:
    """Return the only object of a kind."""
    (found,) = (each for each in rendered if each["kind"] == kind)
    return found
