from __future__ import annotations

import pytest

from parsers.graphql_document import GraphQlDocument, choose_operation, parse_document
from parsers.http_exchange import GraphQlOperation

LIMIT = 16_384
FOO = GraphQlOperation("Foo", "query")
BAR = GraphQlOperation("Bar", "mutation")
UNNAMED = GraphQlOperation(None, "query")
UNKNOWN = GraphQlOperation(None, None)


def read(text: str) -> list[GraphQlOperation] | None:
    document = parse_document(text, LIMIT, cut=False)
    if document is None:
        return None
    assert document.whole
    return document.operations


def read_cut(text: str) -> list[GraphQlOperation] | None:
    document = parse_document(text, LIMIT, cut=True)
    if document is None:
        return None
    assert not document.whole
    return document.operations


@pytest.mark.parametrize(
    ("text", "operations"),
    [
        ("{a}", [UNNAMED]),
        ("\ufeff# a comment {\n , { a }", [UNNAMED]),
        ("query { a }", [UNNAMED]),
        ("query Foo { a }", [FOO]),
        ("mutation Bar($a: [Int!]! = [1] @d, $b: T) @e(f: 1) { g(h: $a) @i { j } }", [BAR]),
        ("subscription { a }", [GraphQlOperation(None, "subscription")]),
        ('"of one" query Foo("of a variable" $a: A) { a }', [FOO]),
        ("query query { query: mutation fragment on }", [GraphQlOperation("query", "query")]),
        ("query Foo { a } mutation Bar { b }", [FOO, BAR]),
        ("fragment A on B { c } query Foo { ...A @d ... on B @d { e } ... @d { f } ... { g } }", [FOO]),
        ("fragment A on B @c { d }", []),
        ('{ a(b: "x \\" { \\u00e9", c: """ " "" \\""" { """, d: -1.5e+3, e: E, f: {}, g: []) }', [UNNAMED]),
        ("{ a(b: {c: [{d: $e} [[]] null], f: true}) }", [UNNAMED]),
        ("{ a # } not the end\n }", [UNNAMED]),
    ],
)
def test_a_document_tells_its_operations(text: str, operations: list[GraphQlOperation]) -> None:
    assert read(text) == operations


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shoes",
        "{",
        "{}",
        "{ a",
        "{ a } }",
        "{ a } b",
        "{ a { } }",
        "{ a: }",
        "{ a() }",
        "{ a(b) }",
        "{ a(b:) }",
        "{ a(b: $) }",
        "{ a(b: 01) }",
        "{ a(b: 1x) }",
        "{ a(b: -) }",
        "{ a(b: {c}) }",
        "{ a(b: [1}) }",
        "{ a(b: [1",
        '{ a(b: "x) }',
        '{ a(b: "x\ny") }',
        '{ a(b: "\\q") }',
        "{ a @ }",
        "{ a @b( }",
        "{ ... }",
        "{ ...A { b } }",
        "{ ... on { a } }",
        "{ é }",
        "{ a & b }",
        "{ a } %",
        "query",
        "query shoes",
        "query shoes and boots { size }",
        "query () { a }",
        "query ($a) { a }",
        "query ($a: ) { a }",
        "query ($a: [A) { a }",
        "query ($a: A = $b) { a }",
        "query ($a: A = {b: $c}) { a }",
        "query ($a: A @b(c: $d)) { a }",
        "query ($a: A @b { a }",
        "query @ { a }",
        "queryFoo { a }",
        '"described" { a }',
        "fragment on on A { b }",
        "fragment A { b }",
        "fragment A on { b }",
        "fragment A on B",
        "type A { b: C }",
        "SELECT a FROM b",
        '{app="shop"} |= "error"',
        'sum by (pod) (rate(requests{job="api"}[5m]))',
        "MATCH (n) RETURN n",
        "{ me(func: eq(name, 1)) { name } }",
    ],
)
def test_what_is_no_document_tells_nothing(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "operations"),
    [
        ("query Foo { a ", [FOO]),
        ("query Foo { a { b(c: ", [FOO]),
        ('query Foo { a(b: "unfin } ished', [FOO]),
        ('query Foo { a(b: """unfin\nished "', [FOO]),
        ("query Foo { a ..", [FOO]),
        ("query Foo { a(b: -", [FOO]),
        ("query Foo { a(b: [12", [FOO]),
        ("query Foo { a(b: $", [FOO]),
        ("query Foo { a # unfinished", [FOO]),
        ("query Foo { a } mutation Bar", [FOO]),
        ("query Foo { a } mut", [FOO]),
        ("query Foo { a }", [FOO]),
        ("{ a { b", [UNNAMED]),
        ("fragment A on B { c ", []),
    ],
)
def test_the_beginning_of_a_document_tells_the_operations_that_began(
    text: str, operations: list[GraphQlOperation]
) -> None:
    assert read_cut(text) == operations


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        "quer",
        "query",
        "query Foo",
        "query Foo { ",
        "query Foo { a",
        "query Foo ($a: A) @b",
        "query shoes and boots",
        "{ red shoes and",
        "{ a } and then",
        'query Foo { a(b: "x\ny',
        "query Foo { a % b",
        "query Foo { a ) b { c",
    ],
)
def test_a_beginning_that_may_be_anything_tells_nothing(text: str) -> None:
    assert read_cut(text) is None


def test_a_document_is_read_up_to_its_bound() -> None:
    text = "query Foo { " + "a " * 100 + "} mutation Bar { b }"
    assert parse_document(text, 100, cut=False) == GraphQlDocument([FOO], False)
    assert parse_document(text, len(text), cut=False) == GraphQlDocument([FOO, BAR], True)
    assert parse_document("# a comment\n{ a }", 5, cut=False) is None


def test_nesting_takes_no_stack() -> None:
    depth = 50_000
    assert parse_document("{a" * depth + "}" * depth, 10**6, cut=False) == GraphQlDocument([UNNAMED], True)
    deep = "{ a(b: " + "[" * depth + "]" * depth + ") }"
    assert parse_document(deep, 10**6, cut=False) == GraphQlDocument([UNNAMED], True)
    deep = "query ($a: " + "[" * depth + "A" + "]" * depth + ") { b }"
    assert parse_document(deep, 10**6, cut=False) == GraphQlDocument([UNNAMED], True)


@pytest.mark.parametrize(
    ("document", "name", "name_is_known", "operation"),
    [
        (GraphQlDocument([FOO], True), None, True, FOO),
        (GraphQlDocument([FOO], True), None, False, FOO),
        (GraphQlDocument([FOO], True), "Foo", True, FOO),
        (GraphQlDocument([FOO], True), "Other", True, GraphQlOperation("Other", None)),
        (GraphQlDocument([FOO], True), "no name", True, UNKNOWN),
        (GraphQlDocument([FOO, BAR], True), "Bar", True, BAR),
        (GraphQlDocument([FOO, BAR], True), None, True, UNKNOWN),
        (GraphQlDocument([FOO, GraphQlOperation("Baz", "query")], True), None, False, UNNAMED),
        (GraphQlDocument([], True), None, True, UNKNOWN),
        (GraphQlDocument([FOO], False), None, True, FOO),
        (GraphQlDocument([FOO], False), None, False, UNKNOWN),
        (GraphQlDocument([UNNAMED], False), None, False, UNNAMED),
        (GraphQlDocument([FOO, BAR], False), "Bar", True, BAR),
        (GraphQlDocument([FOO, BAR], False), None, True, UNKNOWN),
        (GraphQlDocument([FOO], False), "Bar", True, GraphQlOperation("Bar", None)),
    ],
)
def test_the_operation_is_chosen_where_that_is_certain(
    document: GraphQlDocument,
    name: str | None,
    name_is_known: bool,  # noqa: FBT001 (a parameter of the table)
    operation: GraphQlOperation,
) -> None:
    assert choose_operation(document, name, name_is_known=name_is_known) == operation
