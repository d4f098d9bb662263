"""A Docker Engine in a folder of its own, and containers in it.

It shares nothing with an Engine of the machine, neither data nor sockets nor rules of the packet filter. What
it leaves in the kernel (bridge, cgroups) is removed when it is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers.image import write_image

DAEMON = shutil.which("dockerd") or "/usr/sbin/dockerd"
# Debian's own client, which fits its Engine, and may be hidden by another one.
CLIENT = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
START_SECONDS = 60.0
WAIT_SECONDS = 30.0

IMAGE = "wirespan.test:5000/tools/python"
"""Name of the image, as a registry would have it."""
NETWORK = "wirespan-test"
PORT = 8000

CGROUPS = Path("/sys/fs/cgroup")
BRIDGED_FRAMES_ARE_FILTERED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def until(condition: Callable[[], bool], what: str = "the condition does not hold") -> None:
    """Wait until a condition holds; fail when it doesn't in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} after {WAIT_SECONDS} s"
        time.sleep(0.005)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    container_id: str

    def inspect(self) -> dict[str, Any]:
        """Return what `docker inspect` shows."""
        return self.engine.inspect(self.container_id)

    @property
    def pid(self) -> int:
        """Its first process, as the host numbers it; 0 when it has ended."""
        return int(self.inspect()["State"]["Pid"])

    @property
    def address(self) -> str:
        """Its IPv4 address in the tests' network."""
        return str(self.inspect()["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])

    def execute(self, *command: str, seconds: float = WAIT_SECONDS) -> str:
        """Run a command in it and return what it prints."""
        return self.engine.docker("exec", self.container_id, *command, seconds=seconds)

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed this."""
        until(lambda: text in self.engine.docker("logs", self.container_id), f"{text!r} was not printed")

    def wait_for_message(self, line: str) -> None:
        """Wait until it has written this line to standard error."""
        command = self.engine.command("logs", self.container_id)

        def is_written() -> bool:
            logs = subprocess.run(command, capture_output=True, text=True, check=True)
            assert self.pid, f"the container has ended: {logs.stderr}"
            return line in logs.stderr.splitlines()

        until(is_written, f"{line!r} was not written")

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        return int(self.engine.docker("wait", self.container_id))

    def stop(self) -> None:
        """Ask its first process to end."""
        self.engine.docker("stop", "--time", "5", self.container_id)

    def remove(self) -> None:
        """Remove it, running or not."""
        self.engine.docker("rm", "--force", self.container_id)


class Engine:
    """A running `dockerd`; it can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self._log = folder / "dockerd.log"
        # That of the machine's Engine is not for this one.
        self._configuration = folder / "daemon.json"
        self._configuration.write_text("{}")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._cgroup_parents = {"/docker"}
        self._bridge = f"wspan-{os.getpid()}"
        self._rules: list[list[str]] = []
        self.start()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        arguments = [
            *("setpriv", "--pdeathsig", "TERM", DAEMON),
            *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
            *("--pidfile", self.folder / "dockerd.pid", "--host", f"unix://{self.socket}"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--config-file", self._configuration),
            # Containers talk to each other and to the host over a bridge: nothing is routed or translated.
            *("--bridge=none", "--iptables=false", "--ip6tables=false"),
            *("--ip-forward=false", "--ip-masq=false"),
            *("--default-address-pool", "base=10.213.0.0/16,size=24"),
        ]
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(arguments, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(self.command("version"), capture_output=True, check=False).returncode:
            assert self._daemon.poll() is None, f"dockerd has ended: {self._log.read_text()[-2_000:]}"
            assert time.monotonic() < deadline, f"dockerd does not answer: {self._log.read_text()[-2_000:]}"

    def stop(self) -> None:
        """End the daemon, and its containers with it."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(START_SECONDS)
            self._daemon = None

    def close(self) -> None:
        """Remove what it has made, and end it."""
        if self._daemon is not None:
            with contextlib.suppress(subprocess.CalledProcessError):
                if containers := self.docker("ps", "--all", "--quiet").split():
                    self.docker("rm", "--force", *containers)
                self.docker("network", "prune", "--force")
        self.stop()
        # The network of the host, as the daemon holds it for containers that use it.
        for held in (self.folder / "exec" / "netns").glob("*"):
            subprocess.run(["umount", held], check=True)
        for rule in self._rules:
            subprocess.run(["iptables", "--delete", *rule], check=True)
        for parent in self._cgroup_parents:
            _remove_cgroups(parent)

    def docker(self, *arguments: str, seconds: float = WAIT_SECONDS) -> str:
        """Run `docker` and return what it prints on standard output."""
        ended = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=seconds
        )
        assert ended.returncode == 0, f"docker {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout.strip()

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what `docker inspect` shows of a container."""
        (shown,) = json.loads(self.docker("inspect", "--type", "container", container))
        return dict(shown)

    def run_container(
        self,
        *command: str,
        name: str | None = None,
        image: str = IMAGE,
        network: str = NETWORK,
        labels: dict[str, str] | None = None,
        cgroup_parent: str | None = None,
        options: tuple[str, ...] = (),
    ) -> Container:
        """Start a container in the background; it may be over already when this returns.

        With `cgroup_parent=f"/kubepods/burstable/pod{uid}"` its cgroup looks like one of kubelet's.
        """
        arguments = ["--network", network, *options]
        if name is not None:
            arguments += ["--name", name]
        if cgroup_parent is not None:
            self._cgroup_parents.add(cgroup_parent)
            arguments += ["--cgroup-parent", cgroup_parent]
        for key, value in (labels or {}).items():
            arguments += ["--label", f"{key}={value}"]
        return Container(self, self.docker("run", "--detach", *arguments, image, *command))

    def run_server(self, name: str | None = None, *, port: int = PORT, **options: Any) -> Container:
        """Start a container that answers HTTP requests, and wait until it listens."""
        server = self.run_container("python3", "/srv/server.py", str(port), name=name, **options)
        server.wait_for_output("listening")
        return server

    def permit_bridge(self, name: str) -> None:
        """Let the containers of a network talk to each other, whatever this machine filters."""
        if _reads_one(BRIDGED_FRAMES_ARE_FILTERED):
            # An Engine of the machine has its filter drop what it does not know.
            rule = ["FORWARD", "--in-interface", name, "--out-interface", name, "-j", "ACCEPT"]
            subprocess.run(["iptables", "--insert", *rule], check=True)
            self._rules.append(rule)

    def _prepare(self) -> None:
        root = self.folder / "image.tar"
        write_image(root)
        self.docker("import", "--change", "ENV PATH=/usr/bin", str(root), f"{IMAGE}:1.0")
        self.docker("tag", f"{IMAGE}:1.0", f"{IMAGE}:latest")
        root.unlink()
        self.docker("network", "create", "--opt", f"com.docker.network.bridge.name={self._bridge}", NETWORK)
        self.permit_bridge(self._bridge)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of the client."""
        return [CLIENT, "--config", str(self.folder), "--host", f"unix://{self.socket}", *arguments]


def _reads_one(switch: Path) -> bool:
    return switch.exists() and switch.read_text().strip() == "1"


def _remove_cgroups(parent: str) -> None:
    """Remove a cgroup that the Engine has made below each hierarchy, and those above that are empty then."""
    for hierarchy in (CGROUPS, *CGROUPS.glob("*")):
        path = hierarchy / parent.lstrip("/")
        with contextlib.suppress(OSError):
            while path != hierarchy:
                path.rmdir()
                path = path.parent
