from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_bridge.redaction.redactor import Redactor

REDACTOR = Redactor()
CANARY = "cAnArY7731"
SENSITIVE = [
    "password",
    "Access_Token",
    "client_secret",
    "apiKey",
    "api-key",
    "SESSION",
    "jwtBearer",
    "pwd",
    "cvv",
]
HARMLESS = ["page", "name", "id", "note"]

sensitive_names = st.sampled_from(SENSITIVE).flatmap(
    lambda name: st.sampled_from(
        [name, name.upper(), name.lower(), name.title(), f"x-{name}" if len(name) > 3 else name]
    )
)
fillers = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs"]), max_size=12)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("authorization", "Bearer abc.def", "Bearer REDACTED"),
        ("authorization", "Basic dXNlcjpwYXNz", "Basic REDACTED"),
        ("authorization", "Digest username=a, response=b", "Digest REDACTED"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=a", "AWS4-HMAC-SHA256 REDACTED"),
        ("authorization", "abcdef", "REDACTED"),
        ("authorization", "mysecret other", "REDACTED"),
        ("proxy-authorization", "basic x", "basic REDACTED"),
        ("cookie", "a=1; b=2;c=", "a=REDACTED; b=REDACTED;c="),
        ("cookie", "opaque", "REDACTED"),
        ("set-cookie", "sid=x; Path=/; HttpOnly; Max-Age=3", "sid=REDACTED; Path=/; HttpOnly; Max-Age=3"),
        ("x-api-key", "k", "REDACTED"),
        ("x-forwarded-client-cert", "Hash=1", "REDACTED"),
        ("x-amz-security-token", "k", "REDACTED"),
        ("x-session-id", "k", "REDACTED"),
    ],
)
def test_headers_that_are_credentials_keep_only_their_form(name: str, value: str, expected: str) -> None:
    assert REDACTOR.is_sensitive_header(name)
    redacted, count = REDACTOR.sensitive_header(name, value)
    assert redacted == expected
    assert count == value.count("=") - 1 if name == "cookie" and count == 2 else count == 1


@pytest.mark.parametrize("name", ["host", "accept", "content-type", "x-request-id", "etag", "user-agent"])
def test_other_headers_are_not_sensitive(name: str) -> None:
    assert not REDACTOR.is_sensitive_header(name)


def test_an_empty_credential_is_nothing_to_redact() -> None:
    assert REDACTOR.sensitive_header("authorization", "") == ("", 0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://a.example/x?token=abc&page=2", "https://a.example/x?token=REDACTED&page=2"),
        ("https://u:p@a.example/x", "https://REDACTED:REDACTED@a.example/x"),
        ("https://u@a.example/x", "https://REDACTED@a.example/x"),
        ("max-age=0, private", "max-age=0, private"),
        ("/cb;jsessionid=AB12", "/cb;jsessionid=REDACTED"),
        ("/r?next=https%3A%2F%2Fb%3Ftoken%3Dabc", "REDACTED"),
    ],
)
def test_any_header_loses_the_credentials_of_its_urls(value: str, expected: str) -> None:
    assert REDACTOR.header(value) == (expected, int(value != expected))


@pytest.mark.parametrize(
    ("query", "expected", "count"),
    [
        ("page=2&sort=asc", "page=2&sort=asc", 0),
        ("Token=abc&page=2", "Token=REDACTED&page=2", 1),
        ("%70assword=abc", "%70assword=REDACTED", 1),
        ("user[password]=abc&user[name]=x", "user[password]=REDACTED&user[name]=x", 1),
        (
            "sig=abc&X-Amz-Signature=d&AWSAccessKeyId=e",
            "sig=REDACTED&X-Amz-Signature=REDACTED&AWSAccessKeyId=REDACTED",
            3,
        ),
        ("design=a&company=b", "design=a&company=b", 0),
        ("password=&password", "password=&password", 0),
        ("card=4111+1111+1111+1111", "card=REDACTED", 1),
        ("n=4111%201111%201111%201111", "n=REDACTED", 1),
        ("u=http%3A%2F%2Fa%3Ab%40c", "u=REDACTED", 1),
        ("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "REDACTED", 1),
        ("", "", 0),
    ],
)
def test_query_values_under_sensitive_names_are_redacted(query: str, expected: str, count: int) -> None:
    assert REDACTOR.query(query) == (expected, count)


def test_names_hidden_by_json_escapes_are_recognised() -> None:
    text = r'{"pass\u0077ord": "abc", "n\u0061me": "x"}'
    expected = r'{"pass\u0077ord": "REDACTED", "n\u0061me": "x"}'
    assert REDACTOR.text(text, "application/json", truncated=False) == (expected, 1)


def test_configured_names_are_sensitive_too() -> None:
    redactor = Redactor(["Badge", " "])
    assert redactor.query("badge=7")[0] == "badge=REDACTED"
    assert redactor.is_sensitive_header("badge")
    assert redactor.text('{"bAdGe": "7"}', "application/json", truncated=False) == (
        '{"bAdGe": "REDACTED"}',
        1,
    )
    assert REDACTOR.query("badge=7") == ("badge=7", 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("app", "--password=x", "--port", "80"), "app --password=REDACTED --port 80"),
        (("app", "--token", "x", "y"), "app --token REDACTED y"),
        (("app", "--token", "--other"), "app --token --other"),
        (("env", "DB_PASSWORD=x", "app"), "env DB_PASSWORD=REDACTED app"),
        (("app", "postgres://u:p@db/x"), "app postgres://REDACTED:REDACTED@db/x"),
        (("app", "http://a/?api_key=x"), "app http://a/?api_key=REDACTED"),
        ((), ""),
    ],
)
def test_command_lines_lose_their_credentials(arguments: tuple[str, ...], expected: str) -> None:
    assert REDACTOR.command_line(arguments) == expected


def test_text_without_a_secret_comes_back_as_the_same_object() -> None:
    text = json.dumps({"name": "Widget", "created": 1_700_000_000_000, "tags": ["a", "b"]})
    redacted, count = REDACTOR.text(text, "application/json", truncated=False)
    assert redacted is text
    assert count == 0


def test_binary_bodies_keep_every_other_byte() -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nhunter2\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
        b"Content-Type: image/png\r\n\r\n\x89PNG\xff\x00\r\n--b--"
    )
    redacted, count = REDACTOR.binary(part, "multipart/form-data; boundary=b", truncated=False)
    assert redacted == part.replace(b"hunter2", b"REDACTED")
    assert count == 1
    untouched = bytes(range(256))
    assert REDACTOR.binary(untouched, "image/png", truncated=False) == (untouched, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9999) | fillers,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(HARMLESS), children, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def documents_with_a_secret(draw: st.DrawFn) -> str:
    secret: object = draw(
        st.sampled_from(
            [CANARY, [CANARY], {"user": CANARY, "n": [1, {"deep": CANARY}]}, f'a"{CANARY}\\', f"{CANARY}}}{{"]
        )
    )
    document: object = {draw(sensitive_names): secret, "z": draw(json_values)}
    for _ in range(draw(st.integers(0, 3))):
        document = draw(
            st.sampled_from(
                [
                    {"name": "x", "inner": document},
                    [document, 1],
                    {"note": draw(fillers), "list": [[document]]},
                ]
            )
        )
    if draw(st.booleans()):
        document = {"payload": json.dumps(document)}
    return json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 2])))


@given(documents_with_a_secret())
def test_no_member_with_a_sensitive_name_survives_at_any_depth(document: str) -> None:
    redacted, count = REDACTOR.text(document, "application/json", truncated=False)
    assert CANARY not in redacted
    assert count >= 1
    json.loads(redacted)


@given(documents_with_a_secret(), st.data())
def test_no_part_of_a_secret_survives_a_cut_anywhere(document: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(document)))
    redacted, _ = REDACTOR.text(document[:cut], "application/json", truncated=True)
    assert CANARY[:4] not in redacted


@pytest.mark.parametrize("value", ['[1, {"b": "s3cret"}', '{"b": "s3cret","c', '["s3cret\\"', "[[["])
def test_a_sensitive_object_that_is_cut_goes_to_the_end(value: str) -> None:
    text = '{"a": 1, "password": ' + value
    assert REDACTOR.text(text, "application/json", truncated=True) == ('{"a": 1, "password": "REDACTED"', 1)


def test_a_form_that_is_cut_within_the_head_of_a_part_has_nothing_to_redact() -> None:
    text = '--b\r\ncontent-disposition: form-data; name="password"\r\ncontent-type: text/pl'
    assert REDACTOR.text(text, "multipart/form-data", truncated=True) == (text, 0)


@given(sensitive_names, st.lists(st.tuples(st.sampled_from(HARMLESS), fillers), max_size=3), st.data())
def test_no_form_value_with_a_sensitive_name_survives(
    name: str, others: list[tuple[str, str]], data: st.DataObject
) -> None:
    pairs = [*others, (name, f"{CANARY} &=é")]
    form = "&".join(
        f"{quote_plus(key)}={quote_plus(value)}" for key, value in data.draw(st.permutations(pairs))
    )
    redacted, _ = REDACTOR.text(form, "application/x-www-form-urlencoded; charset=utf-8", truncated=False)
    assert CANARY not in redacted
    assert redacted.count("&") == len(others)


@given(name=sensitive_names, encode_all=st.booleans())
def test_percent_encoded_names_are_recognised(name: str, *, encode_all: bool) -> None:
    encoded = "".join(f"%{ord(c):02X}" for c in name) if encode_all else quote(name)
    assert REDACTOR.query(f"a=b&{encoded}={CANARY}") == (f"a=b&{encoded}=REDACTED", 1)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300), truncated=st.booleans())
def test_any_text_can_be_redacted_and_redacting_twice_changes_nothing(text: str, *, truncated: bool) -> None:
    for media_type in (
        "application/json",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ):
        once, _ = REDACTOR.text(text, media_type, truncated=truncated)
        assert REDACTOR.text(once, media_type, truncated=truncated)[0] == once


def test_a_token_that_travels_as_a_websocket_subprotocol_goes() -> None:
    value = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0LXRva2Vu, v4.channel.k8s.io"
    assert Redactor().header(value) == (
        "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.REDACTED, v4.channel.k8s.io",
        1,
    )
