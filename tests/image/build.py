"""The image of this checkout, built in the tests' own Engine; from the cache if its sources are the same."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.containers.engine import Engine
from tests.image.base_image import CACHE, NAME, debian_base

REPOSITORY = Path(__file__).parents[2]
IMAGE = "wirespan:0.1.0"
BUILD_SECONDS = 1_200.0
_CONTEXT = (
    *("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml"),
    *("agent", "ebpf", "locks", "otel_bridge", "parsers", "scripts"),
)


def run(engine: Engine, *arguments: str | Path, seconds: float = BUILD_SECONDS) -> None:
    """Run a command of the client that may take long."""
    command = engine.command(*map(str, arguments))
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=seconds
    )
    assert ended.returncode == 0, ended.stdout.decode()[-4_000:]


def import_base(engine: Engine) -> None:
    """Give the Engine the base image under its own name."""
    run(engine, "import", debian_base(), NAME)


def build_image(engine: Engine) -> str:
    """Give the Engine the image and return its name."""
    saved = CACHE / f"image-{_fingerprint()}.tar"
    if saved.exists():
        run(engine, "load", "--input", saved)
        return IMAGE
    import_base(engine)
    # The Engine has no bridge to the world.
    run(engine, "build", "--network", "host", "--tag", IMAGE, REPOSITORY)
    for outdated in CACHE.glob("image-*.tar"):
        outdated.unlink()
    part = saved.with_suffix(".part")
    run(engine, "save", "--output", part, IMAGE)
    part.rename(saved)
    return IMAGE


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in _CONTEXT:
        path = REPOSITORY / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(REPOSITORY)}\0{file.stat().st_mode}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
