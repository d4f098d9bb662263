"""Credentials in lines, streams, settings, code and wrapped messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_bridge.redaction.redactor import Redactor

REDACTOR = Redactor(("badge",))
SECRET = "cAnArY7731"


def redacted(text: str, content_type: str, *, truncated: bool = False) -> tuple[str, int]:
    as_text = REDACTOR.text(text, content_type, truncated=truncated)
    if text.isascii():
        as_bytes, count = REDACTOR.binary(text.encode(), content_type, truncated=truncated)
        assert (as_bytes.decode(), count) == as_text
    return as_text


@pytest.mark.parametrize(
    ("content_type", "text", "expected"),
    [
        ("application/x-ndjson", '{"a":1}\n{"password": "@@"}\n', '{"a":1}\n{"password": "##"}\n'),
        ("application/json-seq", '\x1e{"token": "@@"}\n', '\x1e{"token": "##"}\n'),
        ("text/event-stream", 'event: next\ndata: {"pin": 1234}\n\n', 'event: next\ndata: {"pin": "##"}\n\n'),
        ("text/event-stream", 'data: {"pwd":\ndata: "@@"}\n\n', 'data: {"pwd":\ndata: "##"}\n\n'),
        ("text/event-stream", 'data: {"pwd"\r\ndata::"@@"}\r\n', 'data: {"pwd"\r\ndata::"##"}\r\n'),
        (
            "text/event-stream",
            'data: {"pwd":\nid: 7\n: x\ndata:\ndata: "@@"}\n\n',
            'data: {"pwd":\nid: 7\n: x\ndata:\ndata: "##"}\n\n',
        ),
        (
            "text/event-stream",
            'data: {"auth": {\ndata: "a": "@@"\ndata: }, "b": 1}\n\n',
            'data: {"auth": "##", "b": 1}\n\n',
        ),
        (
            "multipart/mixed; boundary=-",
            '---\r\nContent-Type: application/json\r\n\r\n{"password": "@@"}\r\n-----',
            '---\r\nContent-Type: application/json\r\n\r\n{"password": "##"}\r\n-----',
        ),
        (
            "multipart/mixed; boundary=b",
            "--b\r\n\r\nGET /a HTTP/1.1\r\nAuthorization: Bearer @@\r\nHost: a\r\n\r\n--b--",
            "--b\r\n\r\nGET /a HTTP/1.1\r\nAuthorization: ##\r\nHost: a\r\n\r\n--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            '--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n@@\r\n--b--',
            '--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n##\r\n--b--',
        ),
        ("message/http", "Cookie: a=@@; b=@@\r\nHost: a\r\n", "Cookie: ##\r\nHost: a\r\n"),
        ("application/http", "X-Api-Key: @@\r\n @@\r\nHost: a\r\n", "X-Api-Key: ##\r\nHost: a\r\n"),
        ("application/yaml", "user: a\npassword: @@ @@ # @@\nb: c\n", "user: a\npassword: ##\nb: c\n"),
        ("application/x-yaml", "- token: '@@'\n  name: x\n", "- token: ##\n  name: x\n"),
        ("text/yaml", "secrets:\n- @@\n- @@\nname: x", "secrets:##\nname: x"),
        ("application/yaml", "private_key: |\n  @@\n\n  @@\nname: x", "private_key: ##\nname: x"),
        ("application/yaml", "a: {password: @@, name: x}", "a: {password: ##, name: x}"),
        ("application/toml", 'apiKey = "@@"\nname = "x"', 'apiKey = ##\nname = "x"'),
        ("application/toml", "token = '''\n@@\n'''\nname = 1", "token = ##\nname = 1"),
        ("application/toml", "token = '''\n@@", "token = ##"),
        ("application/toml", 'a = {badge = "@@", b = 1}', 'a = {badge = "##", b = 1}'),
        ("application/x-sh", "export DB_PASSWORD=@@\nls", "export DB_PASSWORD=##\nls"),
        ("application/x-sh", "curl -H 'Authorization: Bearer @@' a", "curl -H 'Authorization: ##' a"),
        ("application/javascript", 'f({password:"@@",a:1})', 'f({password:"##",a:1})'),
        ("application/javascript", "const apiKey = `@@`; g()", "const apiKey = `##`; g()"),
        ("text/javascript", "f({token: token, sid: sid})", "f({token: token, sid: sid})"),
        ("application/x-httpd-php", "$password = '@@';", "$password = '##';"),
        ("application/sql", "ALTER ROLE a PASSWORD '@@'", "ALTER ROLE a PASSWORD '##'"),
        ("application/sql", "CREATE USER a IDENTIFIED  BY '@@' b", "CREATE USER a IDENTIFIED  BY '##' b"),
        ("application/n-triples", '<a> <http://x/password> "@@" .', '<a> <http://x/password> "##" .'),
        ("application/trig", 'ex:password "@@" ; ex:name "x"', 'ex:password "##" ; ex:name "x"'),
        ("application/xml", "<a><password>@@</password></a>", "<a><password>##</password></a>"),
        ("text/xml", '<w:Password Type="x">@@</w:Password>', '<w:Password Type="x">##</w:Password>'),
        ("application/soap+xml", "<pwd>\n<![CDATA[@@<a]]></pwd>", "<pwd>\n<![CDATA[##]]></pwd>"),
        ("application/x-xml", "<user token='@@' id='1'/>", "<user token='##' id='1'/>"),
        ("image/svg+xml", '<a api-key = "@@">x</a>', '<a api-key = "##">x</a>'),
        ("application/xml", "<secret>@@", "<secret>##"),
        ("application/xml", "<secret><![CDATA[@@", "<secret><![CDATA[##"),
        ("application/xml", '<a pin="@@', '<a pin="##'),
        ("application/www-form-urlencoded", "password=@@&a=b", "password=##&a=b"),
        ("application/form-urlencoded", "a=b&token=@@", "a=b&token=##"),
    ],
)
def test_values_of_sensitive_names_are_redacted(content_type: str, text: str, expected: str) -> None:
    shown, count = redacted(text.replace("@@", SECRET), content_type)
    assert shown == expected.replace("##", "REDACTED")
    assert count == expected.count("##")


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("application/yaml", "name: kettle\nauthor: someone\ntokenize: true\npassword:\nnext: 1"),
        ("application/javascript", "function token(){return session}"),
        ("application/xml", "<tokens/><credentials>\n<user>a</user></credentials><b>the token</b>"),
        ("application/xml", "</password>x<password></password><a>password</a><!-- secret -->"),
        ("application/sql", "SELECT name FROM tokens WHERE id = 17"),
        ("multipart/mixed; boundary=x", "--x\r\nContent-Type: text/plain\r\n\r\nthe token ring\r\n--x--"),
        ("text/event-stream", 'data: {"a":\ndata: "b"}\n\n'),
        ("text/plain", "password is a word"),
    ],
)
def test_other_text_stays_as_it_is(content_type: str, text: str) -> None:
    assert redacted(text, content_type) == (text, 0)


def test_what_was_redacted_is_not_redacted_again() -> None:
    once, count = redacted(f"password: {SECRET}\nf(token='{SECRET}')", "application/yaml")
    assert count == 2
    assert redacted(once, "application/yaml") == (once, 0)


def test_a_letter_that_becomes_two_moves_nothing() -> None:
    text = f"İİ: x\npassword: {SECRET}\n"
    assert redacted(text, "application/yaml") == ("İİ: x\npassword: REDACTED\n", 1)


names = st.sampled_from(["password", "Access_Token", "client_secret", "api-key", "pwd", "badge"])


@given(names, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([None, 0, 1, 2]), st.booleans())
def test_no_division_into_lines_of_an_event_hides_a_member(
    name: str,
    line_end: str,
    indent: int | None,
    nested: bool,  # noqa: FBT001 - drawn
) -> None:
    members: dict[str, object] = {"a": "b", name: SECRET, "c": [1, {"d": "e"}]}
    text = json.dumps({"result": members} if nested else members, indent=indent)
    divided = text.replace(": ", ":\n").replace("\n", f"{line_end}data: ")
    shown, count = redacted(f"data: {divided}{line_end * 2}", "text/event-stream")
    assert SECRET not in shown
    assert count == 1


@given(
    names,
    st.sampled_from(
        ["{}: {}", "{} = {}", '{}: "{}"', "{}='{}'", "  {}: {}", "- {}: {}", "export {}={}", '"{}": {}']
    ),
    st.sampled_from(["application/yaml", "application/toml", "message/http", "multipart/mixed"]),
    st.integers(0, 40),
)
def test_no_cut_shows_a_value(name: str, form: str, content_type: str, cut: int) -> None:
    text = "a: b\n" + form.format(name, SECRET)
    beginning = text[: max(5, len(text) - cut)]
    shown, _ = redacted(beginning, content_type, truncated=True)
    assert SECRET[:3] not in shown


@given(
    st.text("token:=\"'`\n \\x-", max_size=60),
    st.sampled_from(["application/yaml", "application/javascript"]),
)
def test_any_text_is_read(text: str, content_type: str) -> None:
    redacted(text, content_type)


def test_a_boundary_makes_no_code_of_a_form() -> None:
    text = f"--sql\r\nContent-Type: text/plain\r\n\r\npassword: {SECRET}\r\n--sql--"
    assert redacted(text, "multipart/mixed; boundary=sql") == (text.replace(SECRET, "REDACTED"), 1)
