from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.media_types import find_charset, read_content_type

TEXTUAL = """
    text/plain text/html text/event-stream text/json text/csv text/javascript text/vnd.graphviz
    application/json application/x-json application/json5 application/jsonrequest application/json-rpc
    application/x-amz-json-1.0 application/x-amz-json-1.1 application/dns-json application/csp-report
    application/reports+json application/vnd.api+json application/problem+json application/ld+json
    application/manifest+json application/graphql-response+json application/graphql application/geo+json
    application/cloudevents+json application/cloudevents-batch+json application/json-patch+json
    application/vnd.docker.distribution.manifest.v1+prettyjws application/vnd.oci.image.index.v1+json
    application/x-ndjson application/ndjson application/jsonl application/json-lines application/stream+json
    application/json-seq application/geo+json-seq application/x-json-stream
    application/xml application/soap+xml application/xhtml+xml image/svg+xml application/xml-dtd
    application/problem+xml application/atom+xml
    application/yaml application/x-yaml application/vnd.oai.openapi+yaml application/toml
    application/x-www-form-urlencoded application/www-form-urlencoded
    application/javascript application/x-javascript application/ecmascript application/x-sh
    application/x-httpd-php application/typescript
    application/sql application/x-sql application/sparql-query application/sparql-update
    application/n-triples application/n-quads application/trig
    application/openmetrics-text application/x-protobuf-text application/rtf application/mbox
    application/sdp application/vnd.apple.mpegurl application/x-mpegurl application/jwt
    model/gltf+json
""".split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
BINARY = """
    application/octet-stream binary/octet-stream application/x-amz-cbor-1.1 application/cbor
    application/vnd.kubernetes.protobuf application/x-protobuf application/protobuf application/grpc
    application/grpc-web+proto application/grpc-web-text application/msgpack application/zip
    application/epub+zip application/senml+cbor application/gzip application/pdf application/wasm
    application/vnd.apache.arrow.stream application/x-tar application/bson application/avro
    image/png image/jpeg video/mp4 audio/mpeg font/woff2 model/gltf-binary
    application/vnd.apple.pkpass application/jsonx application/x-sqlite3 application/fhir+ndjsonx
""".split()  # noqa: SIM905 - a table of words reads better than a column of quoted ones
WRAPPERS = ["multipart/form-data", "multipart/mixed", "multipart/related", "message/rfc822", "message/http"]


@pytest.mark.parametrize("media_type", TEXTUAL)
@pytest.mark.parametrize("form", ["{}", "{};", "{} ; a=b", "{}, {}", '"{}"', " {};version=1", '{};q="x, y"'])
def test_textual_types_are_so_however_they_are_written(media_type: str, form: str) -> None:
    for written in (media_type, media_type.upper(), media_type.title()):
        value = form.replace("{}", written).encode()
        assert read_content_type(value) == (media_type, "utf-8", True)
        assert find_charset(value) == "utf-8"


@pytest.mark.parametrize("media_type", BINARY)
def test_binary_types_are_not_even_where_their_bytes_could_be_text(media_type: str) -> None:
    assert read_content_type(f"{media_type}; a=b".encode()) == (media_type, None, False)
    assert find_charset(media_type.encode()) is None


@pytest.mark.parametrize("media_type", [*WRAPPERS, "application/http"])
def test_what_wraps_content_may_be_text(media_type: str) -> None:
    assert read_content_type(f"{media_type}; boundary=x".encode()) == (media_type, "utf-8", False)
    assert find_charset(media_type.encode()) is None


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b";", b"json", b"text", b"text/html, image/png", b"/", b"a b/c", b"\xff/x", b"text/", b","],
)
def test_what_is_no_type_says_nothing(value: bytes) -> None:
    assert read_content_type(value) == ("", "utf-8", False)


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (b"TEXT/HTML; Charset=ISO-8859-1", "iso8859-1"),
        (b'text/html; charset="utf-16"', "utf-16"),
        (b"text/html; charset='utf-8'", "utf-8"),
        (b"text/plain; charset=klingon", "latin-1"),
        (b"text/plain; charset=base64", "latin-1"),
        (b"text/plain; charset=undefined", "latin-1"),
        (b"text/plain; charset=idna", "latin-1"),
        (b"text/plain; charset=unicode_escape", "latin-1"),
        (b"application/x-ndjson; charset=shift_jis", "shift_jis"),
    ],
)
def test_charsets(content_type: bytes, charset: str) -> None:
    assert find_charset(content_type) == charset


def test_a_charset_does_not_make_a_binary_type_text() -> None:
    value = b"application/octet-stream; charset=latin-1"
    assert read_content_type(value) == ("application/octet-stream", "iso8859-1", False)
    assert find_charset(value) is None


@given(st.binary(max_size=40) | st.from_regex(rb"[a-z]+/[a-z+]+(; ?charset=[a-z0-9_-]+)?,?", fullmatch=True))
def test_any_value_is_read(value: bytes) -> None:
    read = read_content_type(value)
    assert not read.is_text or read.charset is not None
    if read.charset is not None:
        b"x".decode(read.charset, "replace")
