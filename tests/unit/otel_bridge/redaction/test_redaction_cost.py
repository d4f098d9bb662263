"""A body made for it can't slow the agent down."""

from __future__ import annotations

import pytest

from otel_bridge.redaction.redactor import Redactor
from tests.growth import FACTOR, assert_not_quadratic

REDACTOR = Redactor()
LARGE = 131_072
"""Characters of the large text, as long as the longest body that is kept."""


def redact(text: str) -> None:
    for media_type in (
        "application/json",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "text/event-stream",
        "application/yaml",
        "application/javascript",
        "application/xml",
    ):
        REDACTOR.text(text, media_type, truncated=True)
    REDACTOR.header(text)


@pytest.mark.growth
@pytest.mark.parametrize(
    ("head", "unit"),
    [
        *[
            ("", unit)
            for unit in (
                *(
                    "eyJ",
                    "eyJa.",
                    "-----BEGIN ",
                    "-----BEGIN -----END",
                    "http://a",
                    "://a:",
                    "@:/",
                    "4111 ",
                    "4 ",
                    "41",
                ),
                *(
                    '"',
                    '"a',
                    '\\"',
                    "\\",
                    '"\\',
                    '"password":"',
                    '"password":[',
                    '"password":[]',
                    '"token" ',
                    '"a":\\u0061',
                ),
                *(
                    "name=",
                    "content-disposition:",
                    "\ncontent-disposition: name=",
                    "\ncontent-disposition:\n\n",
                    'name="a"',
                    'name="a"\n',
                    'name="password"\n\n',
                    "\n",
                    "?a=",
                    "?token=",
                    "&",
                    "%",
                    "%41",
                    ";",
                    "{",
                    "}",
                ),
            )
        ],
        *[
            ("", unit)
            for unit in (
                *(
                    "token",
                    "token ",
                    "token \n",
                    "token:",
                    "token:\n",
                    "token: x\n",
                    "token:\n ",
                    "  token: a\n",
                ),
                *(
                    "token = ",
                    'token "',
                    "token='",
                    "token=`",
                    "pass=1 ",
                    "a-token",
                    "identified by ",
                    "\ndata:",
                ),
                *('"token"\ndata:', '"a"\nid', '"\n', '"a":\n', "token: '''\n", "-token", "\n\n token:"),
            )
        ],
        *[
            ("", unit)
            for unit in ("<token>", "<token ", "<token a", "<a:token", "token='", "<pin><![CDATA[", "<pin>a")
        ],
        ("<token", " "),
        ("token", "="),
        ("token:", "\n"),
        ("token: x", "\n "),
        ("token", " "),
        ("token:", "- a\n"),
        ('"token"', "\nid"),
        ('"token"', "\ndata:"),
        ("x@y ://", "a"),
        ("x@y ://", "a:"),
        ("x@y ://", "@"),
        ('"password" ', " "),
        ('"password":', " "),
        ('"password":"', "\\"),
        ('"password":"', '\\"'),
        ('"password":{', '"'),
        ("eyJ", "a"),
        ("4111 1111 1111 ", "4111 1111 1111 "),
        ('name="password"', "x"),
        ('name="password"\n', "x\n"),
    ],
)
def test_the_time_grows_in_proportion_to_the_text(head: str, unit: str) -> None:
    small, large = (head + unit * (length // len(unit)) for length in (LARGE // FACTOR, LARGE))
    assert_not_quadratic(lambda: redact(small), lambda: redact(large))
