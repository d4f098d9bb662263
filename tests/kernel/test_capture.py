"""The running capture itself: clocks, the compiler child, its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ebpf import compiler_child as compiler
from ebpf.capture import LiveCapture
from ebpf.compilation import CaptureOptions, CaptureUnavailable, Compilation
from ebpf.events import ClockSample, Policy
from tests.kernel.conftest import FOREVER_SECONDS, REQUEST, Tap, connect_pair, receive_exactly

pytestmark = pytest.mark.kernel


def test_the_first_event_is_a_clock_sample_of_now(open_tap: Callable[..., Tap]) -> None:
    before = ClockSample(time.monotonic_ns(), time.time_ns())
    capture = open_tap().capture
    first, *_ = capture.poll(1.0)
    assert isinstance(first, ClockSample)
    assert before.ktime_ns <= first.ktime_ns <= time.monotonic_ns()
    assert before.unix_ns <= first.unix_ns <= time.time_ns()
    assert not capture.exhausted


def test_nothing_arriving_ends_the_poll_after_its_time(open_tap: Callable[..., Tap]) -> None:
    capture = open_tap().capture
    capture.remove_policy(os.getpid())
    capture.poll(0)
    started = time.monotonic()
    assert capture.poll(0.2) == []
    assert time.monotonic() - started >= 0.2


def test_a_record_wakes_nobody_but_a_ring_half_full_does(open_tap: Callable[..., Tap]) -> None:
    capture = open_tap(ring_bytes=1 << 20, turn_budget=1 << 30).capture
    client, server = connect_pair()
    with client, server:

        def send(content: bytes) -> None:
            client.sendall(content)
            receive_exactly(server, len(content))

        producer = threading.Timer(0.05, send, [REQUEST])
        producer.start()
        started = time.monotonic()
        assert len(capture._ring.wait(0.5)) == 4
        assert time.monotonic() - started >= 0.5

        producer = threading.Timer(0.05, send, [bytes(600_000)])
        producer.start()
        assert capture._ring.wait(FOREVER_SECONDS)
        producer.join()


def test_closing_twice_is_harmless_and_keeps_the_counters() -> None:
    capture = LiveCapture(Compilation(CaptureOptions(default_policy=Policy.IGNORE)))
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names, not paths
    capture.close()
    capture.close()
    assert capture.losses()["ring_full_records"] == 0
    assert len(set(os.listdir("/proc/self/fd"))) < len(before)  # noqa: PTH208  # as above


@pytest.mark.parametrize("variant", range(len(compiler._VARIANTS)))
def test_every_variant_of_the_program_loads_here(variant: int) -> None:
    script = (
        "from ebpf import compiler_child as compiler; from ebpf.compilation import CaptureOptions\n"
        f"compiler._VARIANTS = compiler._VARIANTS[{variant}:{variant + 1}]\n"
        "request = compiler.Request(CaptureOptions().compiler_flags(), [], True)\n"
        "attached = compiler.compile_and_attach(request)\n"
        "assert attached.tls_obstacle is None\n"
        "handed_over = compiler.MAPS, compiler.TLS_MAPS, compiler.TRACEPOINTS, compiler.TLS_PROGRAMS\n"
        "assert len(attached.descriptors) == sum(map(len, handed_over))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_kernel_that_refuses_the_programs_of_tls_captures_all_else() -> None:
    script = (
        "import errno\n"
        "from ebpf import compiler_child as compiler\n"
        "from ebpf.compilation import CaptureOptions\n"
        "def refuse(module, attach_type): raise OSError(errno.EINVAL, 'Invalid argument')\n"
        "compiler._Module.load_probes = refuse\n"
        "request = compiler.Request(CaptureOptions().compiler_flags(), [], True)\n"
        "attached = compiler.compile_and_attach(request)\n"
        "assert 'Invalid argument' in attached.tls_obstacle\n"
        "assert len(attached.descriptors) == len(compiler.MAPS) + len(compiler.TRACEPOINTS)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_agent_holds_no_compiler() -> None:
    script = (
        "import sys; from ebpf.capture import *; from ebpf.compilation import *\n"
        "capture = LiveCapture(Compilation(CaptureOptions(default_policy=Policy.IGNORE)))\n"
        "capture.losses()\n"
        "assert 'bcc' not in sys.modules\n"
        "maps = open('/proc/self/maps').read()\n"
        "assert 'libbcc_bpf' in maps and 'LLVM' not in maps\n"
        "capture.close()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_tree_that_is_none_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WIRESPAN_KERNEL_HEADERS", str(tmp_path))
    with pytest.raises(CaptureUnavailable, match=r"WIRESPAN_KERNEL_HEADERS names .* unset it"):
        LiveCapture(Compilation(CaptureOptions()))


def test_a_program_that_does_not_compile_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaptureOptions, "compiler_flags", lambda _self: ["-DTURN_BUDGET=("])
    with pytest.raises(CaptureUnavailable, match=r"did not compile .*error:"):
        LiveCapture(Compilation(CaptureOptions()))


def test_without_privileges_the_refusal_says_which_are_missing() -> None:
    script = (
        "from ebpf.capture import *; from ebpf.compilation import *\n"
        "try: LiveCapture(Compilation(CaptureOptions()))\n"
        "except CaptureUnavailable as error: print(error)"
    )
    finished = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "CAP_BPF" in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr
