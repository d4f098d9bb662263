"""The check of words finds those of its list in prose, and leaves code alone."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(tree: Path, text: str, name: str = "module.py") -> subprocess.CompletedProcess[str]:
    (tree / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tree, check=True)
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/check_words.py")], cwd=tree, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "line",
    [
        "# Files {}ever wrote them.".format("who"),
        "    # {} listens.".format("No" + "body"),
        '"""Sockets, {} one is open."""'.format("of " + "which"),
        " * {} for the other direction. */".format("Like" + "wise"),
    ],
)
def test_a_word_of_the_list_is_found_with_its_place(tmp_path: Path, line: str) -> None:
    done = check(tmp_path, f"first = 1\n{line}\n")
    assert done.returncode == 1
    assert done.stdout.startswith("module.py:2: ")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("_NO" + "BODY = 0", "module.py"),
        ("# the user `{}` has no rights".format("no" + "body"), "module.py"),
        ("# It likewise ends.", "module.py"),
        ("no" + "body", "data.bin"),
    ],
)
def test_names_code_and_data_pass(tmp_path: Path, line: str, name: str) -> None:
    done = check(tmp_path, f"{line}\n", name)
    assert (done.returncode, done.stdout) == (0, "")
