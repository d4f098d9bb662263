"""Reading of the transcripts in tests/corpus/http1; their form is told in the README there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ebpf.events import Role
from tests.builders import Conversation

CORPUS = Path(__file__).parents[2] / "corpus" / "http1"


class Transcript(NamedTuple):
    """One file: what happened, in order, and what must come of it."""

    name: str
    steps: list[tuple[str, bytes]]
    expected: list[str]


def read_transcripts() -> list[Transcript]:
    """Read all files of the corpus."""
    return [_read(path) for path in sorted(CORPUS.glob("*.txt"))]


def play(transcript: Transcript, role: Role, *, kernel_role: Role | None = None) -> Conversation:
    """Turn a transcript into events."""
    talk = Conversation(role=role, kernel_role=kernel_role)
    for action, data in transcript.steps:
        if action == ">":
            talk.request(data)
        elif action == "<":
            talk.response(data)
        elif action == "end >":
            talk.end_requests()
        elif action == "end <":
            talk.end_responses()
        else:
            talk.close()
    return talk


def _read(path: Path) -> Transcript:
    steps: list[tuple[str, bytes]] = []
    expected: list[str] = []
    joined = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("= "):
            expected.append(line[2:])
        elif line[:1] in (">", "<"):
            data = _decode(line)
            if joined and steps[-1][0] == line[0]:
                data = steps.pop()[1] + data
            steps.append((line[0], data))
            joined = True
        else:
            joined = False
            if line != "---":
                steps.append((line, b""))
    return Transcript(path.stem, steps, expected)


def _decode(line: str) -> bytes:
    end = {"n": b"\n", "|": b""}.get(line[1:2], b"\r\n")
    text = line[2:] if line[1:2] == " " else line[3:]
    return text.encode().decode("unicode_escape").encode("latin-1") + end
