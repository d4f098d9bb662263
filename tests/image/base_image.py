"""A stand-in for `debian:trixie-slim`, for machines that can't pull it: made by debootstrap, then cached."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAME = "debian:trixie-slim"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wirespan"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# As the official slim images have it (debuerreotype's debuerreotype-slimify).
_NO_DOCUMENTATION = "".join(
    f"path-exclude /usr/share/{folder}/*\n" for folder in ("doc", "info", "linda", "lintian", "locale", "man")
)
_LEFT_OUT = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "var/lib/apt/lists")


def debian_base() -> Path:
    """Return a tar of its root file system, for `docker import`."""
    archive = CACHE / "debian-trixie-slim.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            root = Path(folder) / "root"
            subprocess.run(
                ["debootstrap", "--variant=minbase", "trixie", root], check=True, stdout=subprocess.DEVNULL
            )
            _slim(root)
            part = Path(folder) / "tar"
            subprocess.run(["tar", "--directory", root, "--create", "--file", part, "."], check=True)
            part.rename(archive)
    return archive


def _slim(root: Path) -> None:
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(_NO_DOCUMENTATION)
    for folder in (*_LEFT_OUT, "var/cache/apt/archives"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    (root / "var/cache/apt/archives/partial").mkdir()
    # Whom this machine trusts on its way to the package index, a proxy perhaps, the build trusts too.
    shutil.copyfile(CERTIFICATES, root / "etc/trusted-by-the-host.pem")
    (root / "etc/pip.conf").write_text("[global]\ncert = /etc/trusted-by-the-host.pem\n")
