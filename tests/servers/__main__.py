"""Puts generated shapes of requests to five servers, and holds the parsers to what these make of them.

python -m tests.servers            prints the table; fails when the parsers are wrong about any shape
python -m tests.servers --record   also writes the corpus that CI replays (`corpus`)
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.servers.corpus import write_corpus
from tests.servers.five_servers import NAMES, find_versions, running_servers
from tests.servers.judgement import CLASSES, NOT_SHOWN, SHOWINGS, classify, find_fault, show
from tests.servers.readings import Verdict, ask
from tests.servers.shapes import Shape, generate_shapes

_CONNECTIONS = 10
"""Shapes asked at the same time, each of every server."""
_QUIET_SECONDS = 0.5
_PATIENT_SECONDS = 2.0
"""Quiet after which a server that seemed to wait does so, when it is asked again."""
_MOST_FAULTS = 50
"""Faults printed."""

Verdicts = dict[str, Verdict]


async def ask_servers(
    ports: dict[str, int], shapes: list[Shape], quiet_seconds: float, connections: int
) -> dict[str, Verdicts]:
    """Put the shapes to all servers; return the verdicts by the shape's name."""
    verdicts: dict[str, Verdicts] = {}
    left = shapes[::-1]

    async def work() -> None:
        while left:
            shape = left.pop()
            given = await asyncio.gather(*(ask(ports[name], shape.data, quiet_seconds) for name in NAMES))
            verdicts[shape.name] = dict(zip(NAMES, given, strict=True))

    await asyncio.gather(*(work() for _ in range(connections)))
    return verdicts


def collect(shapes: list[Shape]) -> dict[str, Verdicts]:
    """Run the servers, ask them, and ask again with more patience where one seemed to wait."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # nginx gives up its rights, and needs its files all the same.
        folder.chmod(0o755)
        with running_servers(folder) as ports:
            verdicts = asyncio.run(ask_servers(ports, shapes, _QUIET_SECONDS, _CONNECTIONS))
            doubtful = [
                shape
                for shape in shapes
                if any(verdict.waited or not verdict.answer for verdict in verdicts[shape.name].values())
            ]
            verdicts |= asyncio.run(ask_servers(ports, doubtful, _PATIENT_SECONDS, _CONNECTIONS))
    return verdicts


def judge(shapes: list[Shape], verdicts: dict[str, Verdicts], write: Callable[[str], object]) -> int:
    """Print the table and what is wrong; return how many shapes are."""
    table: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    for shape in shapes:
        given = verdicts[shape.name]
        class_name = classify(given)
        showings = {name: show(shape.data, given[name].answer) for name in NAMES}
        # A shape counts by the worst that is shown of it at any server that answers with a head.
        words = [showings[name].word for name in NAMES if not given[name].is_headless]
        table[class_name, max(words, key=SHOWINGS.index, default=NOT_SHOWN)] += 1
        wrong = {name: find_fault(class_name, showings[name], given[name]) for name in NAMES}
        name = next((name for name in NAMES if wrong[name]), None)
        if name is not None:
            codes = " ".join(f"{each}={given[each].code()}" for each in NAMES)
            faults.append(f"{shape.name} ({class_name}, at {name}): {wrong[name]}; {codes}; {shape.data!r}")
    write(f"{'class':12}" + "".join(f"{word:>12}" for word in (*SHOWINGS, "all")) + "\n")
    for class_name in CLASSES:
        row = [table[class_name, word] for word in SHOWINGS]
        write(f"{class_name:12}" + "".join(f"{count:12}" for count in (*row, sum(row))) + "\n")
    write(f"wrong: {len(faults)}\n")
    for fault in faults[:_MOST_FAULTS]:
        write(fault + "\n")
    return len(faults)


def main() -> int:
    """Ask, judge and perhaps record; return 1 when the parsers are wrong about a shape."""
    arguments = argparse.ArgumentParser(prog="python -m tests.servers")
    arguments.add_argument("--shapes", type=int, default=6_500)
    arguments.add_argument("--record", action="store_true", help="write the corpus")
    chosen = arguments.parse_args()
    shapes = list(generate_shapes(chosen.shapes))
    versions = find_versions()
    start = time.monotonic()
    verdicts = collect(shapes)
    servers = ", ".join(f"{name} {versions[name]}" for name in NAMES)
    seconds = time.monotonic() - start
    sys.stdout.write(f"{len(shapes)} shapes put to {servers} in {seconds:.0f} s\n")
    if chosen.record:
        write_corpus(
            ((shape, classify(verdicts[shape.name]), verdicts[shape.name]) for shape in shapes), versions
        )
    return 1 if judge(shapes, verdicts, sys.stdout.write) else 0


if __name__ == "__main__":
    sys.exit(main())
