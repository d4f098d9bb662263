"""The shapes with what the five servers made of them, as a file: CI needs no server for it.

One line per shape, tab-separated: its name, its class (`judgement`), the verdict of each server, the
method and the length of the body as the first server that accepts it read them, and its bytes, escaped
as in a Python literal. A verdict is the status of the answer, `wait`, `none` or `http0.9`; behind a
colon, a letter stands for what the server read, the same letter for the same reading, and `+` or `-` for
the request behind the shape, read as it is or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.five_servers import NAMES
from tests.servers.readings import Read, Verdict
from tests.servers.shapes import Shape

FILE = Path(__file__).parents[1] / "corpus" / "http1_servers.tsv"
_FOLLOWERS = {"answered": "+", "misread": "-", "unseen": ""}


@dataclass(frozen=True)
class Case:
    """A line of the corpus."""

    name: str
    class_name: str
    verdicts: dict[str, str]
    method: str
    body_length: int
    data: bytes


def write_corpus(
    cases: Iterable[tuple[Shape, str, Mapping[str, Verdict]]], versions: Mapping[str, str]
) -> None:
    """Write the shapes, their classes and their verdicts; the first line names the servers' versions."""
    servers = [f"{name} {versions[name]}" for name in NAMES]
    lines = ["# " + "\t".join(["name", "class", *servers, "method", "length", "bytes"])]
    for shape, class_name, verdicts in cases:
        words = _encode_verdicts(verdicts)
        escaped = shape.data.decode("latin-1").encode("unicode_escape").decode("ascii")
        read = next((verdicts[name].read for name in NAMES if verdicts[name].read is not None), None)
        what = ["", "0"] if read is None else [read.method.decode("latin-1"), str(read.length)]
        lines.append("\t".join([shape.name, class_name, *words, *what, escaped]))
    FILE.write_text("\n".join(lines) + "\n")


def read_corpus() -> Iterator[Case]:
    """Yield the cases of the file."""
    for line in FILE.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, class_name, *verdicts, method, length, escaped = line.split("\t")
        data = escaped.encode("ascii").decode("unicode_escape").encode("latin-1")
        yield Case(name, class_name, dict(zip(NAMES, verdicts, strict=True)), method, int(length), data)


def _encode_verdicts(verdicts: Mapping[str, Verdict]) -> list[str]:
    letters: dict[Read, str] = {}
    words = []
    for name in NAMES:
        verdict = verdicts[name]
        word = verdict.code()
        if verdict.is_accepted and verdict.read is not None:
            letter = letters.setdefault(verdict.read, "abcde"[len(letters)])
            word += ":" + letter + _FOLLOWERS[verdict.follower]
        words.append(word)
    return words
