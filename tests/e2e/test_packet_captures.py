"""`replay` of what tcpdump captured: the spans of the run beside it, without root and without bcc."""

import gzip
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from ebpf.input_stream import InputStream
from ebpf.packets.counters import new_packet_counters
from ebpf.packets.file import PacketFile
from ebpf.packets.limits import PacketLimits
from tests.e2e.captures import assert_equal, capturing, comparable, replay
from tests.e2e.conftest import Server, curl, read_spans, wirespan
from tests.nginx import running_nginx
from tests.packets import Talk, enhanced, interface, pcap, section
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("interface", ["lo", "any"])
def test_a_capture_gives_the_spans_of_the_server_side(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path, address: str, interface: str
) -> None:
    api = server(address)
    live, capture = tmp_path / "live", tmp_path / "traffic.pcap"
    running = agent("run", "--port", str(api.port), "--direction", "ingress", "--spans-file", str(live))
    with capturing(capture, api.port, interface=interface):
        curl(f"{api.url}/one", f"{api.url}/two", "--data", "password=hunter2&x=1")
        curl(f"{api.url}/three", "--head")
        curl(f"{api.url}/four", "--header", "Expect: 100-continue", "--data", "y" * 100_000)
        curl(f"{api.url}/five", "--http1.0")
    running.stop()
    replayed = replay(capture, tmp_path / "replayed")
    assert len(replayed) == 5
    assert_equal(read_spans(live), replayed)
    host = f"[{address}]" if ":" in address else address
    assert {span.resource["service.name"] for span in replayed} == {f"{host}:{api.port}"}
    assert not any("process.pid" in span.resource or "host.name" in span.resource for span in replayed)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    locations = """
        default_type application/json; gzip on; gzip_min_length 1; gzip_types application/json;
        location /plain { return 200 '{"answer": 42}'; }
        location /missing { return 404; }
        location /moved { return 302 /plain; }
    """
    with running_nginx(tmp_path, locations) as port:
        yield port


def test_keep_alive_and_pipelining_against_nginx(
    agent: Callable[..., Agent], nginx: int, tmp_path: Path
) -> None:
    live, capture = tmp_path / "live", tmp_path / "traffic.pcap"
    running = agent("run", "--port", str(nginx), "--direction", "ingress", "--spans-file", str(live))
    with capturing(capture, nginx):
        for path in ("plain", "missing", "moved"):
            curl(*[f"http://127.0.0.1:{nginx}/{path}"] * 20, "--compressed")
        for pipelined in ("1", "8"):
            subprocess.run(
                [
                    "h2load",
                    "--h1",
                    "-n",
                    "200",
                    "-c",
                    "4",
                    "-m",
                    pipelined,
                    f"http://127.0.0.1:{nginx}/plain",
                ],
                check=True,
                capture_output=True,
            )
    running.stop()
    replayed = replay(capture, tmp_path / "replayed")
    assert len(replayed) == 460
    assert comparable(read_spans(live)) == comparable(replayed)
    assert not any("wirespan.incomplete" in span.attributes for span in replayed)


def test_a_capture_that_cuts_packets_says_what_it_lacks(
    server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server()
    capture = tmp_path / "cut.pcap"
    with capturing(capture, api.port, "--snapshot-length", "300"):
        curl(f"{api.url}/one", "--data", "x" * 1_000)
    spans_file = tmp_path / "spans"
    ended = wirespan("replay", str(capture), "--spans-file", str(spans_file))
    assert ended.returncode == 0
    assert "uncaptured_bytes" in ended.stderr
    (span,) = read_spans(spans_file)
    assert span.attributes["http.request.body.size"] == 1_000
    assert span.attributes["wirespan.request.body.truncated"] == "gap"


def test_a_replay_needs_neither_root_nor_bcc_nor_a_name(
    server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server()
    capture = tmp_path / "traffic.pcap"
    with capturing(capture, api.port):
        curl(f"{api.url}/one")
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "bcc.py").write_text("raise ImportError('bcc is not for a replay')\n")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        packed = Path(folder) / "traffic"
        packed.write_bytes(gzip.compress(capture.read_bytes()))
        plain = Path(shutil.copy(capture, Path(folder) / "data.bin"))
        for file in (packed, plain):
            file.chmod(0o644)
            ended = wirespan(
                "replay",
                str(file),
                user=65_534,
                group=65_534,
                extra_groups=[],
                env={**os.environ, "PYTHONPATH": str(shadow), "HOME": "/"},
            )
            assert ended.returncode == 0, ended.stderr
            assert ended.stdout.count("/one") == 1


def test_a_capture_that_is_cut_is_replayed_as_far_as_it_goes(
    server: Callable[..., Server], tmp_path: Path
) -> None:
    api = server()
    capture = tmp_path / "traffic.pcap"
    with capturing(capture, api.port):
        curl(f"{api.url}/one")
    capture.write_bytes(capture.read_bytes()[:-3])
    ended = wirespan("replay", str(capture))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("/one") == 1
    assert re.search(r"traffic\.pcap is cut, at byte \d+; its last \d+ bytes are not read", ended.stderr)


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_tcpdump_reads_the_same_packets_from_the_same_file(tmp_path: Path, form: str) -> None:
    talk = Talk()
    talk.open()
    talk.request(b"GET / HTTP/1.1\r\n\r\n")
    packets = [packet.cut(70) for packet in talk.packets]
    content = pcap(packets)
    if form == "pcapng":
        content = section() + interface(options=[(9, b"\x09")])
        content += b"".join(enhanced(p.data, p.unix_ns, length=p.length) for p in packets)
    capture = tmp_path / form
    capture.write_bytes(content)
    shown = subprocess.run(
        ["tcpdump", "-Z", "root", "-r", str(capture), "-n", "-tt", "--nano", "-x"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    times = [int(Decimal(time) * 10**9) for time in re.findall(r"^(\d+\.\d{9}) IP", shown, re.MULTILINE)]
    stream = InputStream.open(capture)
    read = [
        packet
        for packet in PacketFile(stream, PacketLimits(), new_packet_counters()).packets()
        if packet is not None
    ]
    stream.close()
    assert [packet.unix_ns for packet in read] == times
    assert [(packet.data, packet.length) for packet in read] == [(p.data, p.length) for p in packets]
