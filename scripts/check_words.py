#!/usr/bin/env python3
"""Words that make a sentence hard to read once: `python scripts/check_words.py` lists where they stand.

Owns the list, which is part of the house rules in CONTRIBUTING.md. It reads every text file that git tracks,
prints one line for each word found, and exits with 1 when there is one. Text in backticks is code or a quoted
name and is not looked at.
"""

import re
import subprocess
import sys
from pathlib import Path

WORDS = {
    r"of (?:which|whom|whose)": "begin a sentence of its own",
    r"who(?:m|so)?ever": "name the program, the file or the person",
    r"(?:no|some|any)body": "name the program or the person, or use the passive voice",
    r"(?:^|[.:;] )likewise": "say what is the same",
    r"hence|thereof|therein|whereof|thereby": "use a plain word",
    r"the (?:former|latter)": "repeat the noun",
    r"programs? who|process(?:es)? who|threads? who": "programs are not people: that or which",
}
"""Pattern, and what to write instead."""

SUFFIXES = frozenset(
    {".c", ".css", ".h", ".html", ".md", ".py", ".sh", ".toml", ".tpl", ".txt", ".yaml", ".yml"}
)
LEFT_OUT = ("tests/corpus/", "locks/", "scripts/check_words.py")
"""Data, made files, and the list itself."""

_CODE = re.compile(r"`[^`\n]*`")
_MARGIN = re.compile(r"^(?:[\s#*/\"'|>-]|//)+")


def find_words(text: str) -> list[tuple[int, str, str]]:
    """Return (line number, word, advice) for each word of the list."""
    pattern = re.compile(
        "|".join(rf"(\b(?:{each})\b)" if "^" not in each else f"({each}\\b)" for each in WORDS), re.I
    )
    advice = list(WORDS.values())
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        prose = _MARGIN.sub("", _CODE.sub("", line))
        for match in pattern.finditer(prose):
            assert match.lastindex is not None
            found.append((number, match.group().strip(), advice[match.lastindex - 1]))
    return found


def main() -> int:
    """Look at all files, print what was found, and return the exit code."""
    names = subprocess.run(("git", "ls-files", "-z"), capture_output=True, check=True, text=True).stdout  # noqa: S607 (git of this machine)
    count = 0
    for name in filter(None, names.split("\0")):
        path = Path(name)
        if path.suffix not in SUFFIXES or name.startswith(LEFT_OUT) or not path.is_file():
            continue
        for number, word, advice in find_words(path.read_text(encoding="utf-8")):
            print(f"{name}:{number}: {word!r}: {advice}")  # noqa: T201 (a command)
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
