"""A Python distribution as an installer leaves it: modules, and metadata that names entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install_distribution(
    site: Path, name: str, source: str, entry_points: Mapping[str, Mapping[str, str]]
) -> None:
    """Put module `name` with its metadata into a folder that belongs on `sys.path`.

    `entry_points` maps a group to names and what they stand for, `module:attribute`.
    """
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{name}.py").write_text(source)
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, components in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in components.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
