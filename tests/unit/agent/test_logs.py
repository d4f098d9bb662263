"""The form of log lines."""

import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from agent.logs import LogFormat, LogLevel, announce_ready, configure_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_text_lines_say_when_how_severe_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, LogFormat.TEXT)
    logging.getLogger("agent.x").warning("%d spans dropped", 3)
    logging.getLogger("agent.x").debug("unseen")
    captured = capsys.readouterr()
    assert captured.err[8:] == " warning 3 spans dropped\n"
    assert captured.out == ""


def test_json_lines_are_objects_with_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.DEBUG, LogFormat.JSON)
    logging.getLogger("agent.x").debug('a "quoted"\nline')
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == 'a "quoted"\nline'
    assert (line["level"], line["logger"]) == ("debug", "agent.x")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("log_format", LogFormat)
def test_where_a_bug_happened_is_part_of_its_line(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogLevel.DEBUG, log_format)
    try:
        int("x")
    except ValueError as error:
        logging.getLogger("agent.x").debug("where", exc_info=error)
    written = capsys.readouterr().err
    assert "test_logs.py" in written
    assert log_format is LogFormat.TEXT or written.count("\n") == 1


def test_warnings_of_libraries_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, LogFormat.JSON)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert json.loads(capsys.readouterr().err)["level"] == "warning"


def test_ready_is_a_line_of_its_own_at_every_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.ERROR, LogFormat.TEXT)
    announce_ready(LogFormat.TEXT)
    assert capsys.readouterr().err == "ready\n"
    announce_ready(LogFormat.JSON)
    assert json.loads(capsys.readouterr().err)["message"] == "ready"
