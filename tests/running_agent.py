"""The installed command, started as a user would."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("wirespan")
END_SECONDS = 30


class Agent:
    """A running `wirespan`, ready when constructed."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.log: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if line == "ready\n":
                return
        raise AssertionError(f"not ready: {''.join(self.log)}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End by a signal, expect 0, and return what it wrote to standard output."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> str:
        """Expect the end with 0, and return what it wrote to standard output."""
        out, err = self.process.communicate(timeout=END_SECONDS)
        self.log.append(err)
        assert self.process.returncode == 0, "".join(self.log)
        assert "Traceback" not in "".join(self.log)
        return str(out)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
