"""The stages of this checkout beside those of another one, in turns: what a change costs or gains.

    python -m tests.bench.comparison OTHER_CHECKOUT [--kind http1]... [--rounds N]

Two runs one after the other differ by more than a refactoring may cost, because the machine drifts. Here each
checkout has a process of its own, and slice by slice they take turns over the same traffic. Both checkouts
need this benchmark.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from tests.bench.varied import KINDS, ROUNDS, SLICES, Measurement, Replay, collector_of_the_agent

HERE = Path(__file__).parents[2]
PARTS = ("decode", "parse", "span", "redaction", "encode", "agent", "replay")

Answer = dict[str, int]
Pair = tuple[int, int]
"""A figure of the other checkout, and the same of this one."""


class Side:
    """The process of one checkout."""

    def __init__(self, checkout: Path, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.comparison", "--serve", kind],
            cwd=checkout,
            # the order of sets is the same in both
            env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, order: str) -> Answer:
        """Send an order, wait until it is done, and return what came of it.

        Raises:
            RuntimeError: The process ended; what it said of that went to standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of a checkout ended, with exit code {self._process.wait()}")
        return dict(json.loads(answer))

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(kind: str) -> None:
    """Do what comes in on standard input, in the process of a checkout."""
    measurement = Measurement(KINDS[kind])
    with tempfile.TemporaryDirectory() as folder, collector_of_the_agent():
        replay = Replay(measurement.slices, Path(folder))
        for line in sys.stdin:
            answer: Answer = {}
            match line.split():
                case ["begin"]:
                    measurement.begin_round()
                case ["slice", number]:
                    answer = asdict(measurement.measure_slice(int(number), with_naive_stack=False))
                case ["end"]:
                    measurement.end_round()
                    answer = {"exchanges": measurement.exchanges, "bytes": measurement.encoded_bytes}
                case ["replay"]:
                    answer = {"replay": replay.measure()}
            click.echo(json.dumps(answer))


def compare(other: Path, kind: str, rounds: int) -> None:
    """Measure both and print what they take, part by part."""
    orders = ["begin", *(f"slice {number}" for number in range(SLICES)), "end", "replay"]
    sides = [Side(other, kind), Side(HERE, kind)]
    turns: list[dict[str, tuple[Answer, Answer]]] = []
    try:
        for number in range(rounds):
            turns.append({})
            for order in orders:
                # each goes first as often as the other
                answers = [side.ask(order) for side in (sides[::-1] if number % 2 else sides)]
                before, after = answers[::-1] if number % 2 else answers
                turns[-1][order] = before, after
    finally:
        for side in sides:
            side.end()
    before, after = turns[-1]["end"]
    click.echo(f"{KINDS[kind].name}: µs per exchange, best of {rounds} rounds; median of the ratios")
    for part in PARTS:
        pairs = [
            [(one[part], two[part]) for one, two in answers.values() if part in one] for answers in turns
        ]
        _print_part(part, pairs, before["exchanges"])
    click.echo(f"  bytes of the spans: {before['bytes']} before, {after['bytes']} after")


def _print_part(part: str, rounds: list[list[Pair]], exchanges: int) -> None:
    best_us = [
        sum(min(pair[side] for pair in turns) for turns in zip(*rounds, strict=True)) / exchanges / 1000
        for side in (0, 1)
    ]
    ratio = statistics.median(after / before for pairs in rounds for before, after in pairs)
    click.echo(f"  {part:10}{best_us[0]:9.2f}{best_us[1]:9.2f}   x {ratio:.3f}")


@click.command()
@click.argument("other", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, default=list(KINDS))
@click.option("--rounds", type=click.IntRange(1), default=2 * ROUNDS, show_default=True)
@click.option("--serve", "served", hidden=True, help="Be the process of one checkout.")
def main(other: Path | None, kinds: tuple[str, ...], rounds: int, served: str | None) -> None:
    """Compare this checkout with OTHER: the figures of OTHER, those of this one, their ratio."""
    if served is not None:
        serve(served)
        return
    if other is None:
        raise click.UsageError("name the checkout to compare with")
    for kind in kinds:
        compare(other.resolve(), kind, rounds)


if __name__ == "__main__":
    main()
