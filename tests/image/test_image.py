"""The image: what is in it, and the agent at work in a container of it."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import tomllib
import urllib.request
from pathlib import Path

import pytest

from tests.certificates import issue_certificates
from tests.containers.engine import PORT, Engine, until
from tests.e2e.conftest import SERVER, read_spans
from tests.image.build import REPOSITORY
from tests.image.conftest import StartContainer
from tests.image.probes import probes_of, remaining

# The first one also builds the image.
pytestmark = [pytest.mark.image, pytest.mark.timeout(1_500)]

REQUESTS = 5


def test_the_agent_captures_another_container_from_its_first_request_on(
    docker_engine: Engine, start: StartContainer, start_agent: StartContainer, tmp_path: Path
) -> None:
    agent = start_agent("run", "--container", "shop", "--spans-file", "-")
    probes = probes_of(agent.pid)
    assert len(probes["link"]) == 5

    # Another user's, so that its environment is not the agent's to read by its user alone.
    options = ("--user", "1000", "--env", "OTEL_SERVICE_NAME=checkout")
    for name in ("shop", "till"):
        server = start("python3", "/srv/server.py", str(PORT), name=name, options=options)
        server.wait_for_output("listening")
        for number in range(REQUESTS):
            with urllib.request.urlopen(f"http://{server.address}:{PORT}/{number}", timeout=10) as response:
                response.read()

    agent.stop()
    assert agent.wait() == 0
    until(lambda: not any(remaining(probes).values()), "something is left in the kernel")
    # Where the socket was mounted, and nothing else.
    assert docker_engine.docker("diff", agent.container_id).splitlines() == ["C /run", "A /run/docker.sock"]

    spans_file = tmp_path / "spans.jsonl"
    spans_file.write_text(docker_engine.docker("logs", agent.container_id) + "\n")
    spans = read_spans(spans_file)
    assert sorted(span.attributes["url.path"] for span in spans) == [
        f"/{number}" for number in range(REQUESTS)
    ]
    for span in spans:
        assert span.kind == SERVER
        assert span.resource["container.name"] == "shop"
        assert span.resource["service.name"] == "checkout"
        assert "wirespan.incomplete" not in span.attributes


def test_the_agent_captures_tls_of_another_container(
    docker_engine: Engine, start: StartContainer, start_agent: StartContainer, tmp_path: Path
) -> None:
    issued = issue_certificates(tmp_path)
    agent = start_agent("run", "--container", "shop", "--spans-file", "-")
    server = start(
        *("python3", "/srv/server.py", str(PORT)),
        name="shop",
        options=(
            *("--volume", f"{tmp_path}:/issued:ro"),
            *("--env", "CERTIFICATE=/issued/certificate.pem", "--env", "KEY=/issued/key.pem"),
        ),
    )
    server.wait_for_output("listening")
    trusting = ssl.create_default_context(cafile=str(issued.authority))
    trusting.check_hostname = False
    for number in range(REQUESTS):
        url = f"https://{server.address}:{PORT}/{number}"
        with urllib.request.urlopen(url, timeout=10, context=trusting) as response:
            response.read()
    agent.stop()
    assert agent.wait() == 0
    spans_file = tmp_path / "spans.jsonl"
    spans_file.write_text(docker_engine.docker("logs", agent.container_id) + "\n")
    spans = read_spans(spans_file)
    assert [span.attributes["url.path"] for span in spans] == [f"/{number}" for number in range(REQUESTS)]
    for span in spans:
        assert (span.attributes["url.scheme"], span.attributes["wirespan.tls"]) == ("https", "openssl")
        assert span.attributes["network.local.address"] == server.address
        assert span.resource["container.name"] == "shop"
        assert "wirespan.incomplete" not in span.attributes


def test_an_agent_that_is_killed_leaves_nothing_in_the_kernel(
    docker_engine: Engine, start_agent: StartContainer
) -> None:
    agent = start_agent("run", "--spans-file", "-")
    probes = probes_of(agent.pid)
    assert all(probes.values())
    docker_engine.docker("kill", agent.container_id)
    until(lambda: not any(remaining(probes).values()), "something is left in the kernel")


def test_the_check_finds_nothing_missing(start_agent: StartContainer) -> None:
    report = start_agent("run", "--spans-file", "-").execute("wirespan", "check").splitlines()
    assert report[-1] == "`wirespan run` would work here."
    assert {line.split()[0] for line in report[: report.index("")]} == {"ok"}


def test_it_says_what_it_is(docker_engine: Engine, image: str) -> None:
    (shown,) = json.loads(docker_engine.docker("inspect", "--type", "image", image))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image"
    assert {
        f"{prefix}.title": project["name"],
        f"{prefix}.version": project["version"],
        f"{prefix}.description": project["description"],
        f"{prefix}.licenses": project["license"],
    }.items() <= shown["Config"]["Labels"].items()
    assert shown["Config"]["Entrypoint"] == ["wirespan"]
    assert shown["Config"]["Cmd"] == ["run"]


def test_it_holds_no_tool_that_builds(docker_engine: Engine, image: str) -> None:
    script = (
        "for tool in pip pip3 gcc cc clang make; do command -v $tool; done; python3 -c 'import pip'; true"
    )
    shell = ("--rm", "--network", "none", "--entrypoint", "sh")
    assert docker_engine.docker("run", *shell, image, "-c", script) == ""


def test_the_kubernetes_library_works_without_the_half_that_is_left_out(
    docker_engine: Engine, image: str
) -> None:
    options = ("--rm", "--network", "none", "--env", "KUBECONFIG=/nowhere")
    command = docker_engine.command("run", *options, image, "run", "--kubernetes")
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    # which the library says
    assert "Invalid kube-config file" in ended.stderr


def test_its_bill_of_materials_lists_what_the_locks_pin(docker_engine: Engine, image: str) -> None:
    shell = ("--rm", "--network", "none", "--entrypoint", "cat")
    bill = json.loads(docker_engine.docker("run", *shell, image, "/usr/share/sbom/wirespan.cdx.json"))
    listed = {component["purl"].partition("?")[0] for component in bill["components"]}
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)", (REPOSITORY / "locks/runtime.txt").read_text(), re.MULTILINE)
    assert pinned
    assert {f"pkg:pypi/{name}@{version}" for name, version in pinned} <= listed
    for name in ("libbpfcc", "python3-bpfcc", "linux-headers-"):
        assert any(purl.startswith(f"pkg:deb/debian/{name}") for purl in listed)
    assert len({component["bom-ref"] for component in bill["components"]}) == len(bill["components"])
