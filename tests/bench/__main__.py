"""Measure wirespan on this machine and print the table of docs/performance.md.

    python -m tests.bench [--only GROUP]... [--json FILE] [--seconds N]

Each row compares two states within one run, with and without the agent, in turns: absolute times of a shared
machine mean little, their difference means more. The best of the turns counts, since noise only ever adds.
Parsing and varied traffic need neither root nor a kernel; `--only varied` takes a minute or two.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click

from tests.bench import http2_parsing, subjects, tls, varied
from tests.bench.load import exported_spans, run_h2load
from tests.bench.naive_stack import microseconds_per_exchange
from tests.bench.rows import TURNS, Row, best_of, print_table

BURSTS_OF_CALLS = 20
BURSTS = 10
NAIVE_RATIO = 80 / 350
"""80 µs of the agent where the naive stack takes 350."""
BURST_REQUESTS = 2000
PAUSE_SECONDS = 1.5
"""Enough for a burst at 700 µs each. Asking the agent whether it is done would cost it time."""


def number_printed_by(*command: str | Path) -> float:
    """Run a program and return the first number that it prints."""
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(ran.stdout.split()[0])


def measure_start() -> list[Row]:
    """Time from the start of the command to `ready`."""

    def start() -> float:
        with subjects.Agent("--spans-file", "/dev/null") as agent:
            return agent.start_seconds

    return [Row("start to ready", "s", None, best_of(start), 4.0)]


def measure_system_calls(folder: Path) -> list[Row]:
    """What the kernel side adds to a write+read pair, captured or not HTTP, and to a call that is neither."""
    program = subjects.build_program("socket_pair_cost", folder)
    rows = {
        "pair": ("kernel: captured write+read pair of 512 B, added", 1.5),
        "plain": ("kernel: the same on a connection judged not HTTP, added", None),
        "other": ("kernel: any other system call, added", 0.2),
    }
    bare: dict[str, list[float]] = {kind: [] for kind in rows}
    traced: dict[str, list[float]] = {kind: [] for kind in rows}

    def measure(into: dict[str, list[float]]) -> None:
        for kind, nanoseconds in into.items():
            nanoseconds.append(number_printed_by(program, kind, str(BURSTS_OF_CALLS)))

    for _ in range(TURNS):
        measure(bare)
        with subjects.Agent("--exe", f"*{program.name}*", "--spans-file", "/dev/null"):
            measure(traced)
    return [
        Row(name, "µs", min(bare[kind]) / 1000, (min(traced[kind]) - min(bare[kind])) / 1000, bound)
        for kind, (name, bound) in rows.items()
    ]


def measure_latency(port: int, folder: Path, seconds: int) -> list[Row]:
    """What a client of nginx waits longer, at a steady 2,000 requests/s."""
    program = subjects.build_program("steady_load", folder)

    def median_us() -> float:
        return number_printed_by(program, str(port), "2000", str(seconds))

    bare, traced = [], []
    for _ in range(TURNS):
        bare.append(median_us())
        with subjects.Agent("--exe", "*nginx*", "--direction", "ingress", "--spans-file", "/dev/null"):
            traced.append(median_us())
    return [Row("median latency at 2,000 requests/s, added", "µs", min(bare), min(traced) - min(bare), 30.0)]


def measure_load(port: int, folder: Path, endpoint: str, seconds: int) -> list[Row]:
    """Processor time per exchange, losses at 5,000 exchanges/s on one core, memory with 1,000 connections."""
    options = ("--exe", "*nginx*", "--direction", "ingress", "--otlp-endpoint", endpoint)
    options = (*options, "--otlp-protocol", "http/protobuf")
    rows = []
    with subjects.Agent(*options) as agent:
        served = run_h2load(port, folder, "-c", "10", "-n", str(BURST_REQUESTS)).requests
        exported_spans(agent, served)
        exchanges = BURSTS * BURST_REQUESTS
        before_all = agent.cpu_seconds()
        bursts_us, naive_turns_us = [], []
        for _ in range(BURSTS):
            before = agent.main_thread_seconds()
            served += run_h2load(port, folder, "-c", "10", "-n", str(BURST_REQUESTS)).requests
            time.sleep(PAUSE_SECONDS)  # the agent works through the burst, with the cores to itself
            bursts_us.append((agent.main_thread_seconds() - before) / BURST_REQUESTS * 1e6)
            # In turns, so that both meet the same phases of a shared machine.
            naive_turns_us.append(microseconds_per_exchange())
        exported_spans(agent, served)
        cpu_us, naive_us = min(bursts_us), min(naive_turns_us)
        all_us = (agent.cpu_seconds() - before_all) / exchanges * 1e6
        rows.append(Row("naive stack, parse and encode alone, per exchange", "µs", None, naive_us, None))
        rows.append(Row("agent over naive stack", "ratio", None, cpu_us / naive_us, NAIVE_RATIO))
        rows.append(Row("agent processor time per exchange, to OTLP bytes", "µs", None, cpu_us, None))
        rows.append(Row("agent processor time per exchange, sending included", "µs", None, all_us, None))
    with subjects.Agent(*options, core=0) as agent:
        before = agent.cpu_seconds()
        started = time.monotonic()
        served = run_h2load(port, folder, "-c", "50", "--rps", "100", "-D", str(seconds)).requests
        elapsed = time.monotonic() - started
        lost = served - exported_spans(agent, served)
        busy = (agent.cpu_seconds() - before) / served * 1e6
        rows.append(Row("load offered to the agent on one core", "exchanges/s", None, served / elapsed, None))
        rows.append(Row("agent processor time per exchange, cores shared", "µs", None, busy, None))
        rows.append(Row("lost exchanges at that load", "exchanges", None, lost, 0))
    with subjects.Agent(*options) as agent:
        served = run_h2load(port, folder, "-c", "1000", "--rps", "2", "-D", str(seconds)).requests
        resident_mb = agent.resident_bytes() / 1e6
        lost = served - exported_spans(agent, served)
        rows.append(Row("resident memory with 1,000 busy connections", "MB", None, resident_mb, 120.0))
        rows.append(Row("lost exchanges with 1,000 busy connections", "exchanges", None, lost, 0))
    return rows


def measure_http2_parsing() -> list[Row]:
    """Time from events to exchanges over HTTP/2, and HPACK's share of it."""
    rows = []
    for what, new_paths in (("recurring paths", False), ("new paths", True)):
        events = http2_parsing.build_conversation(new_paths=new_paths)
        parsing_us = best_of(lambda events=events: http2_parsing.microseconds_per_exchange(events))
        hpack_us = best_of(lambda events=events: http2_parsing.hpack_microseconds_per_exchange(events))
        rows.append(Row(f"HTTP/2 parsing per exchange, {what}", "µs", None, parsing_us, None))
        rows.append(Row(f"HTTP/2 exchanges parsed, {what}", "1/s", None, 1e6 / parsing_us, None))
        rows.append(Row(f"share of the HPACK decoder, {what}", "%", None, 100 * hpack_us / parsing_us, None))
    return rows


GROUPS = ("parsing", "varied", "start", "calls", "load", "tls")


@click.command()
@click.option("--only", "groups", type=click.Choice(GROUPS), multiple=True, default=GROUPS, help="Some rows.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path("build/bench.json"))
@click.option("--seconds", default=10, show_default=True, help="Duration of each load.")
def main(groups: tuple[str, ...], json_path: Path, seconds: int) -> None:
    """Run the measurements, print the table and write it as JSON."""
    rows: list[Row] = []
    if "parsing" in groups:
        rows += measure_http2_parsing()
    if "varied" in groups:
        for kind in varied.KINDS.values():
            rows += varied.measure(kind)
    with tempfile.TemporaryDirectory() as name, subjects.backend() as endpoint:
        folder = Path(name)
        folder.chmod(0o755)  # nginx drops its privileges and must still reach its folder
        if "start" in groups:
            rows += measure_start()
        if "calls" in groups:
            rows += measure_system_calls(folder)
        if "load" in groups:
            with subjects.nginx(folder) as port:
                rows += measure_latency(port, folder, seconds)
                rows += measure_load(port, folder, endpoint, seconds)
        if "tls" in groups:
            rows += tls.measure(folder, endpoint, seconds)
    print_table(rows)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"kernel": platform.release(), "cores": os.cpu_count(), "python": platform.python_version()}
    results = [asdict(row) | {"holds": row.holds} for row in rows]
    json_path.write_text(json.dumps({"machine": machine, "rows": results}, indent=2))
    click.echo(f"\nwritten to {json_path}")


if __name__ == "__main__":
    main()
