"""The scripts wait for another apt: a machine that has just booted updates itself."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APT_GET = ROOT / "scripts" / "apt-get.sh"
PAST_THE_SCRIPT = re.compile(r"apt(-get)?\s[^|;&\n]*\b(update|upgrade|install)\b")

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="runs the real apt-get")


def update(folder: Path) -> subprocess.Popen[str]:
    """Start an update of package lists that are the test's own and come from nowhere."""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources").mkdir()
    options = {
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
    }
    command = [str(APT_GET), "-qq", *(f"-o{key}={value}" for key, value in options.items()), "update"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@needs_apt
def test_a_lock_that_is_held_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    with (tmp_path / "lists" / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        with update(tmp_path) as waiting:
            assert waiting.stderr is not None
            assert "waiting for another apt" in waiting.stderr.readline()
            fcntl.lockf(lock, fcntl.LOCK_UN)
            assert waiting.wait() == 0


@needs_apt
def test_any_other_error_is_passed_on() -> None:
    ended = subprocess.run([APT_GET, "no-such-command"], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 100
    assert ended.stderr == "E: Invalid operation no-such-command\n"


def test_no_script_changes_packages_in_another_way() -> None:
    scripts = [*(ROOT / "scripts").glob("*.sh"), *(ROOT / ".ci").iterdir(), ROOT / "Makefile"]
    scripts.remove(APT_GET)
    elsewhere = [path.name for path in scripts if PAST_THE_SCRIPT.search(path.read_text())]
    assert elsewhere == []
