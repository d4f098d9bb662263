"""The TLS clients of these tests: each follows a plan on 50 connections, and checks the answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.tls.plan import CONNECTIONS, Request, build_all, build_connection_of_wget
from tests.e2e.tls.servers import PROGRAMS, Materials, installed_node, node_with_its_own_openssl

CLIENT_SECONDS = 100


def expect_success(*command: str) -> None:
    """Run a command to its end; what it said is in the message when it failed."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False)
    assert ran.returncode == 0, f"{command[0]} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}"


def converse(name: str, url: str, materials: Materials, folder: Path) -> list[Request]:
    """Run a client to its end, and return what it has asked.

    Args:
        name: `curl`, `wget`, `requests`, `aiohttp`, `httpx`, `node`, `installed-node` or `go`; with `-h2` for
            curl, httpx and go to have HTTP/2 negotiated.
        url: Of the server, without a path.
        materials: The authority to trust.
        folder: Where curl and wget put answers.
    """
    program, _, suffix = name.partition("-h2")
    version = "2" if name.endswith("-h2") else "1.1"
    assert suffix == ""
    authority = str(materials.certificates.authority)
    if program == "wget":
        return _converse_by_wget(url, authority, folder)
    if program == "curl":
        _converse_by_curl(url, authority, folder, version)
    elif program in ("node", "installed-node"):
        node = installed_node() if program == "installed-node" else node_with_its_own_openssl()
        expect_success(node, str(PROGRAMS / "https_client.js"), url, authority)
    elif program == "go":
        expect_success(str(materials.go_peer), "ask", url, authority, version)
    else:
        arguments = (url, authority, version) if program == "httpx" else (url, authority)
        expect_success(sys.executable, "-m", f"tests.e2e.tls.programs.{program}_client", *arguments)
    return list(build_all())


def _converse_by_curl(url: str, authority: str, folder: Path, version: str) -> None:
    """One process, all connections in one thread, those that are idle used again."""
    sections, answers = [], {}
    for number, asked in enumerate(build_all()):
        file = folder / f"curl-{number}"
        answers[file] = asked.answer
        lines = [f'url = "{url}{asked.path}"', f'output = "{file}"', f'cacert = "{authority}"']
        lines.append("http2" if version == "2" else "http1.1")
        if asked.method == "POST":
            lines += [f'data = "{asked.body}"', 'header = "content-type: text/plain"']
        sections.append("\n".join([*lines, "fail\n"]))
    config = folder / "curl.config"
    config.write_text("next\n".join(sections))
    parallel = ["--parallel", "--parallel-max", str(CONNECTIONS)]
    if version != "2":
        parallel.append("--parallel-immediate")
    expect_success("curl", "--silent", "--show-error", "--max-time", "90", *parallel, "--config", str(config))
    wrong = {file.name for file, answer in answers.items() if file.read_text() != answer}
    assert not wrong


def _converse_by_wget(url: str, authority: str, folder: Path) -> list[Request]:
    """A process for each connection, all at once."""
    asked_by_file, running = {}, []
    for connection in range(CONNECTIONS):
        asked = build_connection_of_wget(connection)
        urls, answers = folder / f"urls-{connection}", folder / f"wget-{connection}"
        asked_by_file[answers] = asked
        urls.write_text("".join(f"{url}{each.path}\n" for each in asked))
        command = ["wget", "--quiet", "--ca-certificate", authority, "--input-file", str(urls)]
        if asked[0].method == "POST":
            command += ["--post-data", asked[0].body, "--header", "content-type: text/plain"]
        running.append(subprocess.Popen([*command, "--output-document", str(answers)]))
    assert [process.wait(CLIENT_SECONDS) for process in running] == [0] * CONNECTIONS
    for file, asked in asked_by_file.items():
        assert file.read_text() == "".join(each.answer for each in asked)
    return [each for asked in asked_by_file.values() for each in asked]
