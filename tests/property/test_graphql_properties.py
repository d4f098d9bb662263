"""GraphQL and JSON-RPC: what is read of a whole text is right, what is read of a cut one is never wrong."""

from __future__ import annotations

import json
from typing import Any

from graphql.error import GraphQLSyntaxError
from graphql.language import ExecutableDefinitionNode, OperationDefinitionNode, parse
from hypothesis import example, given
from hypothesis import strategies as st

from parsers.application import recognise
from parsers.counters import new_counters
from parsers.graphql_document import choose_operation, parse_document
from parsers.http_exchange import GraphQlRequest, JsonRpcBatch, Truncation
from parsers.json_text import CutText, read_json
from parsers.limits import ParserLimits
from tests.unit.otel_bridge.exchanges import body, exchange, request, response

LIMIT = 16_384
LIMITS = ParserLimits()

names = st.sampled_from(["a", "b", "Foo", "_x1", "query", "mutation", "fragment", "on", "true", "null"])
scalars = st.one_of(
    names,
    st.sampled_from(
        ["0", "-1", "12", "1.5", "1e3", "-1.0E+2", '""', '"a"', '"a\\"b"', '"\\u00e9 {"', '"""x"""']
    ),
    st.sampled_from(['"""a"b""c\\"""d {"""', '"# no comment"', "$a", "$Foo"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{' '.join(items)}]"),
        st.lists(st.tuples(names, inner), max_size=2).map(
            lambda fields: "{" + ",".join(f"{name}:{value}" for name, value in fields) + "}"
        ),
    ),
    max_leaves=4,
)
arguments = st.one_of(
    st.just(""),
    st.lists(st.tuples(names, values), min_size=1, max_size=2).map(
        lambda pairs: "(" + ", ".join(f"{name}: {value}" for name, value in pairs) + ")"
    ),
)
directives = st.one_of(
    st.just(""), st.just(""), st.tuples(names, arguments).map(lambda it: f"@{it[0]}{it[1]}")
)
spreads = st.tuples(names, directives).map(lambda it: f"...{it[0]} {it[1]}")


def selection_set(selections: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(selections, min_size=1, max_size=3).map(lambda items: "{ " + " ".join(items) + " }")


leaves = st.one_of(names, spreads, st.tuples(names, arguments).map("".join))
selections = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(names, names, arguments, directives, selection_set(inner)).map(
            lambda it: f"{it[0]}: {it[1]}{it[2]} {it[3]} {it[4]}"
        ),
        st.tuples(st.sampled_from(["...", "... on Foo", "...on b"]), directives, selection_set(inner)).map(
            " ".join
        ),
    ),
    max_leaves=6,
)
types = st.sampled_from(["Int", "Int!", "[Foo]", "[[Foo!]!]!", "query"])
variables = st.tuples(names, types, st.sampled_from(["", "=1", '="x"', "=[{a:1}]", "=$a"]), directives).map(
    lambda it: f"${it[0]}: {it[1]}{it[2]} {it[3]}"
)
variable_lists = st.one_of(
    st.just(""), st.lists(variables, min_size=1, max_size=2).map(lambda items: f"({' '.join(items)})")
)
operations = st.one_of(
    selection_set(selections),
    st.tuples(
        st.sampled_from(["query", "mutation", "subscription"]),
        st.one_of(st.just(""), names),
        variable_lists,
        directives,
        selection_set(selections),
    ).map(" ".join),
)
fragments = st.tuples(names, names, directives, selection_set(selections)).map(
    lambda it: f"fragment {it[0]} on {it[1]} {it[2]} {it[3]}"
)
ignored = st.sampled_from(["", " ", "\n", ",", "\t\r\n", "# a { comment\n", "\ufeff"])
documents = st.lists(
    st.tuples(ignored, st.one_of(operations, fragments), ignored), min_size=1, max_size=3
).map(lambda parts: "".join("".join(part) for part in parts))
noise = st.sampled_from(
    [*'{}()[]:!$@="\\.-#,&|%\n', "...", '"""', "0", "1a", "on", "a", "é", "type A { a: B }"]
)


@st.composite
def damaged_documents(draw: st.DrawFn) -> str:
    """A document with one stretch taken out and something else put in: mostly wrong, by little."""
    document = draw(documents)
    begin = draw(st.integers(0, len(document)))
    end = draw(st.integers(begin, min(len(document), begin + 3)))
    return document[:begin] + draw(noise) + document[end:]


def ask_graphql_core(document: str) -> list[tuple[str | None, str]] | None:
    """Return name and type of the operations, None when the authority refuses the document."""
    try:
        definitions = parse(document, no_location=True).definitions
    except GraphQLSyntaxError:
        return None
    if not all(isinstance(definition, ExecutableDefinitionNode) for definition in definitions):
        return None
    return [
        (definition.name.value if definition.name else None, definition.operation.value)
        for definition in definitions
        if isinstance(definition, OperationDefinitionNode)
    ]


def read(document: str, *, cut: bool = False) -> list[tuple[str | None, str | None]] | None:
    parsed = parse_document(document, LIMIT, cut=cut)
    return None if parsed is None else [(operation.name, operation.type) for operation in parsed.operations]


@given(st.one_of(documents, damaged_documents()))
@example('"""described""" query Foo("also" $a: Int) { a }')
@example('"described" { a }')
@example('{ a(b: "\\u{1F600}") }')
@example("{ a(b: 01) }")
@example("{ a(b: 1.) }")
@example("{ a(b: [1-2]) }")
@example('{ a(b: """"""") }')
@example("extend type A { b: C }")
def test_a_document_is_one_when_graphql_core_says_so(document: str) -> None:
    assert read(document) == ask_graphql_core(document)


@given(documents, st.data())
def test_the_beginning_of_a_document_never_tells_another_operation(
    document: str, data: st.DataObject
) -> None:
    operations = ask_graphql_core(document)
    if operations is None:
        return
    beginning = document[: data.draw(st.integers(0, len(document)))]
    told = read(beginning, cut=True)
    assert told is None or told == operations[: len(told)]


@given(documents, st.one_of(st.none(), names), st.sampled_from([1, -1]), st.data())
def test_a_cut_request_never_tells_another_operation(
    document: str, name: str | None, order: int, data: st.DataObject
) -> None:
    parsed = parse_document(document, LIMIT, cut=False)
    if parsed is None:
        return
    executed = choose_operation(parsed, name)
    members = [("query", document), ("operationName", name)]
    content = json.dumps(dict(members[::order])).encode()
    is_alone = len(parsed.operations) == 1
    has_unnamed = any(operation.name is None for operation in parsed.operations)
    if executed.type is None or not (is_alone or (name is not None and not has_unnamed)):
        # No server would execute it.
        return
    sent = body(content[: data.draw(st.integers(0, len(content)))], truncation=Truncation.LIMIT)
    given_exchange = exchange(request_=request(b"POST", content=sent))
    recognise(given_exchange, LIMITS, new_counters())
    application = given_exchange.application
    if application is not None:
        assert isinstance(application, GraphQlRequest)
        (told,) = application.operations
        assert told.name in (None, executed.name)
        assert told.type in (None, executed.type)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.one_of(st.lists(json_values), st.dictionaries(st.text(max_size=4), json_values)), st.data())
def test_what_is_read_of_cut_json_was_there(value: Any, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}]))
    text = json.dumps(value, **layout)
    cut = data.draw(st.integers(0, len(text) - 1))
    reading = read_json(text[:cut], cut=True)
    if cut == 0:
        assert reading is None
        return
    assert reading is not None
    assert not reading.whole
    if isinstance(value, dict):
        assert is_beginning(reading.value, value)
        return
    there = value[: len(reading.value)]
    assert reading.value[:-1] == there[:-1]
    assert reading.value[-1:] == there[-1:] or is_beginning(reading.value[-1], there[-1])


def is_beginning(read_members: Any, members: Any) -> bool:
    """Return whether the members are the first ones, but that the last string may be cut."""
    assert list(read_members) == list(members)[: len(read_members)]
    for name, value in read_members.items():
        if isinstance(value, CutText):
            assert members[name].startswith(value.text)
        else:
            assert value == members[name]
    return True


json_words = st.lists(
    st.sampled_from(
        [
            *'{}[]:,"',
            *(
                '"query"',
                '"jsonrpc"',
                '"2.0"',
                '"method"',
                '"params"',
                '"id"',
                '"error"',
                '"errors"',
                '"data"',
            ),
            *(
                '"persistedQuery"',
                '"extensions"',
                '"{a{b}}"',
                "1",
                "null",
                "1e999",
                " ",
                "\ud800",
                '"\\ud800"',
            ),
        ]
    ),
    max_size=20,
).map(lambda words: "".join(words).encode("utf-8", "surrogatepass"))
shaped = st.one_of(
    st.dictionaries(st.sampled_from(["query", "jsonrpc", "method", "id", "params"]), json_values)
)
contents = st.one_of(
    st.binary(max_size=20),
    json_words,
    st.one_of(shaped, st.lists(shaped, max_size=3)).map(lambda value: json.dumps(value).encode()),
)


@given(
    contents, contents, st.sampled_from([None, Truncation.LIMIT]), st.sampled_from(["utf-8", "latin-1", None])
)
def test_no_content_is_a_bug(
    asked: bytes, answered: bytes, truncation: Truncation | None, charset: str | None
) -> None:
    target = b"/?query=" + asked + b"&extensions=" + answered
    for message in (
        request(b"POST", content=body(asked, charset, truncation=truncation)),
        request(
            b"POST",
            headers=[(b"Content-Type", b"application/graphql")],
            content=body(asked, charset, truncation=truncation),
        ),
        request(target=target),
    ):
        given_exchange = exchange(
            request_=message, response_=response(content=body(answered, charset, truncation=truncation))
        )
        recognise(given_exchange, LIMITS, new_counters())
        application = given_exchange.application
        if isinstance(application, JsonRpcBatch):
            for call in application.calls:
                f"{call.method}{call.identity}{call.error_message}".encode()
