"""Log lines on standard error, for people or as JSON, and the line that says the probes are attached.

Owns the form of a log line; what is logged is said where it happens. Nothing captured is ever logged.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from enum import StrEnum

from otel_bridge.foreign_text import printable


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        # A message may quote what a stranger sent: no line may be forged by it.
        line = f"{clock} {record.levelname.lower():<7} {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{second}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Send every log line of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def announce_ready(log_format: LogFormat) -> None:
    """Write the line `ready`, whatever the log level: scripts and supervisors wait for it."""
    if log_format is LogFormat.JSON:
        record = logging.LogRecord("agent", logging.INFO, "", 0, "ready", None, None)
        line = _JsonFormatter().format(record)
    else:
        line = "ready"
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
