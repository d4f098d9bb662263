"""Images that docker-compose.yml pulls, made here under their own names, for machines that can't pull them.

Of Debian's packages where there is one, of this machine's Go, and of the Collector and Jaeger that
`scripts/build-demo-backends.sh` builds. They are held to what the compose file asks of them, and otherwise
are not those images.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.containers.engine import Engine
from tests.image.base_image import CACHE, NAME
from tests.image.build import REPOSITORY, import_base, run

COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
BUILD_SECONDS = 3_600.0

_INSTALL = "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends"
_DEBIAN = {
    "nginx": f"""FROM {NAME}
{_INSTALL} nginx-light
CMD ["nginx", "-g", "daemon off;"]
""",
    "python": f"FROM {NAME}\n{_INSTALL} python3\n",
    "node": f"FROM {NAME}\n{_INSTALL} nodejs\n",
}
_GO = f"FROM {NAME}\nCOPY . /usr/local/go\nENV PATH=/usr/local/go/bin:/usr/bin:/bin GOTOOLCHAIN=local\n"
_COLLECTOR = """FROM scratch
COPY otelcol-contrib /otelcol-contrib
USER 10001
ENTRYPOINT ["/otelcol-contrib"]
CMD ["--config", "/etc/otelcol-contrib/config.yaml"]
"""
_JAEGER = 'FROM scratch\nCOPY jaeger /jaeger\nUSER 10001\nENTRYPOINT ["/jaeger"]\n'


def services() -> dict[str, Any]:
    """Return the services of docker-compose.yml."""
    services: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return services


def load_stand_ins(engine: Engine) -> None:
    """Give the Engine every image that docker-compose.yml does not build itself, and the demo's own."""
    backends = _build_backends()
    saved = CACHE / f"stand-ins-{_fingerprint()}.tar"
    if saved.exists():
        run(engine, "load", "--input", saved)
        return
    import_base(engine)
    pulled = _pulled()
    for name in pulled:
        repository = re.split(r"[/:]", name)[-2]
        if repository in _DEBIAN:
            _build(engine, name, _DEBIAN[repository])
        else:
            dockerfile = {"opentelemetry-collector-contrib": _COLLECTOR, "jaeger": _JAEGER}[repository]
            _build(engine, name, dockerfile, backends)
    stock = services()["stock"]
    (toolchain,) = re.findall(r"^FROM (golang\S+)", _stock_dockerfile(stock).read_text(), re.MULTILINE)
    go = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
    _build(engine, toolchain, _GO, Path(go))
    run(engine, "build", "--tag", stock["image"], REPOSITORY / stock["build"])
    for outdated in CACHE.glob("stand-ins-*.tar"):
        outdated.unlink()
    part = saved.with_suffix(".part")
    run(engine, "save", "--output", part, *pulled, stock["image"])
    part.rename(saved)


def _build(engine: Engine, name: str, dockerfile: str, context: Path | None = None) -> None:
    where = engine.folder / "stand-in"
    where.mkdir()
    (where / "Dockerfile").write_text(dockerfile)
    run(engine, "build", "--network", "host", "--tag", name, "--file", where / "Dockerfile", context or where)
    shutil.rmtree(where)


def _build_backends() -> Path:
    command = REPOSITORY / "scripts/build-demo-backends.sh"
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=BUILD_SECONDS)
    return Path(built.stdout.strip())


def _stock_dockerfile(stock: dict[str, Any]) -> Path:
    path: Path = REPOSITORY / stock["build"] / "Dockerfile"
    return path


def _pulled() -> list[str]:
    return sorted({service["image"] for service in services().values() if "build" not in service})


def _fingerprint() -> str:
    digest = hashlib.sha256(repr(_pulled()).encode())
    sources = [Path(__file__), Path(__file__).parents[1] / "image/base_image.py"]
    for folder in (
        REPOSITORY / "demo/stock",
        *(Path(__file__).with_name(name) for name in ("collector", "jaeger")),
    ):
        sources += [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in sources:
        digest.update(os.fsencode(path.relative_to(REPOSITORY)) + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
