#!/usr/bin/env python3
"""Writes the bill of materials of an image to standard output, as CycloneDX 1.6 JSON.

Usage, by the Python of the image's virtual environment: `write_sbom.py FOLDER`, where FOLDER holds the kernel
headers and a file `PACKAGE` that says which Debian package they are of. What is listed is what the two
package managers say is there: Debian's packages, and the distributions of the environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import Distribution, distributions, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

_FIELDS = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"


def debian_packages() -> list[dict[str, Any]]:
    """Return the components that dpkg has installed."""
    command = ["dpkg-query", "--show", "--showformat", _FIELDS]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (as it stands)
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    return [_debian_package(*row) for status, *row in rows if status == "installed"]


def kernel_headers(folder: Path) -> dict[str, Any]:
    """Return the component that the kernel headers are of."""
    return _debian_package(*(folder / "PACKAGE").read_text().split())


def python_packages() -> list[dict[str, Any]]:
    """Return the components of this interpreter's environment."""
    return [_python_package(found) for found in sorted(distributions(), key=lambda found: found.name.lower())]


def _debian_package(name: str, package_version: str, architecture: str) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{quote(name)}@{quote(package_version)}?arch={architecture}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": package_version, "purl": purl}


def _python_package(found: Distribution) -> dict[str, Any]:
    purl = f"pkg:pypi/{found.name.lower().replace('_', '-')}@{quote(found.version)}"
    return {"type": "library", "bom-ref": purl, "name": found.name, "version": found.version, "purl": purl}


def main() -> None:
    """Write it."""
    own = {"type": "container", "bom-ref": "wirespan", "name": "wirespan", "version": version("wirespan")}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": [*debian_packages(), kernel_headers(Path(sys.argv[1])), *python_packages()],
    }
    json.dump(bill, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
