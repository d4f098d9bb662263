"""Text of strangers in lines of ours."""

from __future__ import annotations

import json
import logging

import pytest

from agent.logs import LogFormat, LogLevel, configure_logging
from otel_bridge.foreign_text import MAX_QUOTED_CHARACTERS, printable, quote

ODD = "red\x1b[31m\r\nforged\x85\u2028\u202e\ud800\x7f"


def test_what_acts_on_a_terminal_or_ends_a_line_is_escaped() -> None:
    assert printable(ODD) == r"red\x1b[31m\x0d\x0aforged\x85\u2028\u202e\ud800\x7f"
    assert printable("plain, caf\u00e9") == "plain, caf\u00e9"


def test_a_quotation_is_bounded() -> None:
    assert quote("x" * 1_000) == "x" * MAX_QUOTED_CHARACTERS
    assert quote("\n" * 1_000) == r"\x0a" * MAX_QUOTED_CHARACTERS


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_message_is_one_line_of_the_log(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        configure_logging(LogLevel.INFO, log_format)
        logging.getLogger("odd").warning("it said %s", ODD.replace("\ud800", ""))
    finally:
        root.handlers[:] = before
        logging.captureWarnings(False)
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    if log_format is LogFormat.JSON:
        assert json.loads(written)["message"].startswith("it said red\x1b")
    else:
        assert written.rstrip("\n").isprintable()
