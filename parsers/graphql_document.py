"""GraphQL documents: which operations one holds, whole or only its beginning.

Owns the grammar of executable documents (GraphQL specification, September 2025, §2). It must not know how a
document came, or decide whether a schema would take it.

Contract: only a text that was read whole counts as an executable document. Nothing recurses, time is linear
in the text. The library graphql-core is the authority on the grammar in the tests; here it would
cost ten times the time and 15 MiB.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from parsers.http_exchange import GraphQlOperation

# §2.1. A comment is a token here, to be left out afterwards. White space and commas are what no token takes.
# Groups repeat within an atomic group: Python before 3.11.5 loses its place when they repeat possessively.
_STRING = r'"(?!"")(?>(?:[^"\\\n\r]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]++\}))*)"'
_BLOCK_STRING = r'"""(?>(?:[^"\\]++|\\"""|\\(?!""")|"(?!""))*)"""'
# Longer than a number may be, so that what follows a number too closely makes it wrong.
_NUMBER_RUN = r"-?[0-9](?>(?:[eE][+-]|[.0-9A-Za-z_])*)"
_PLAIN_TOKEN = "|".join(
    (
        r"[A-Za-z_][0-9A-Za-z_]*+",
        r"[{}()\[\]:!$@=]",
        r"\.\.\.",
        _NUMBER_RUN,
        _BLOCK_STRING,
        _STRING,
        r"#[^\n\r]*+",
    )
)
_WHOLE_TOKEN = re.compile(_PLAIN_TOKEN)
# Where no token begins, the rest of the text is one: it can only be the last.
_TOKEN = re.compile(rf"{_PLAIN_TOKEN}|[^\t\n\r ,\ufeff](?s:.*+)")
_UNFINISHED_TOKEN = re.compile(r'\.{1,2}|-|"""(?s:.*+)|"(?!"")[^\n\r]*+')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
# A text that begins like this is worth being cut into tokens.
_BEGINNING = re.compile(
    r"(?>(?:[\t\n\r ,\ufeff]++|#[^\n\r]*+)*)"
    r"(?:[{\"]|(?:query|mutation|subscription|fragment)(?![0-9A-Za-z_]))"
)

_END = "\0"
"""Stands after the last token."""
_OPERATION_TYPES = frozenset(("query", "mutation", "subscription"))
_CERTAIN_STRUCTURES = 2
"""Keywords and brackets after which a beginning is no chance: `{ red shoes` may be any language."""


class GraphQlDocument(NamedTuple):
    """What was read of a document."""

    operations: list[GraphQlOperation]
    """In order of appearance; each has a type."""
    whole: bool
    """False when only the beginning was read: more operations may follow."""


def parse_document(text: str, limit: int, *, cut: bool) -> GraphQlDocument | None:
    """Return the operations of a document; None when the text is none, or too little of one to decide.

    At most `limit` characters are read. `cut` says that the end of the text is missing.
    """
    if _BEGINNING.match(text) is None:
        return None
    if len(text) > limit:
        text, cut = text[:limit], True
    tokens = _split_tokens(text, cut=cut)
    if tokens is None:
        return None
    reader = _DocumentReader(tokens)
    if reader.read_definitions():
        return GraphQlDocument(reader.operations, not cut)
    if cut and reader.is_at_end and reader.has_selection and reader.structures >= _CERTAIN_STRUCTURES:
        return GraphQlDocument(reader.operations, False)
    return None


def choose_operation(
    document: GraphQlDocument, name: str | None, *, name_is_known: bool = True
) -> GraphQlOperation:
    """Return the operation that a request asks for, as far as that is certain (specification, §6.1).

    `name` is its `operationName`, None when it has none; with `name_is_known` False it may have one that was
    not seen. A document that is not whole is taken for one that a server would execute.
    """
    operations = document.operations
    if name is not None:
        for operation in operations:
            if operation.name == name:
                return operation
        return GraphQlOperation(name if is_name(name) else None, None)
    # An operation without a name is the only one of its document (§5.2.3.1), and so is one that is executed
    # without being named.
    if len(operations) == 1 and (document.whole or name_is_known or operations[0].name is None):
        return operations[0]
    types = {operation.type for operation in operations} if document.whole else set()
    return GraphQlOperation(None, types.pop() if len(types) == 1 else None)


def is_name(token: str) -> bool:
    """Whether this is a name (specification, §2.1.9)."""
    return token.isidentifier() and token.isascii()


def _split_tokens(text: str, *, cut: bool) -> list[str] | None:
    """Return the tokens and `_END`, without one that a cut may have shortened; None where no token begins."""
    tokens: list[str] = _TOKEN.findall(text)
    if "#" in text:
        tokens = [token for token in tokens if token[0] != "#"]
    if tokens:
        last = tokens[-1]
        if _WHOLE_TOKEN.fullmatch(last) is None:
            if not cut or _UNFINISHED_TOKEN.fullmatch(last) is None:
                return None
            tokens.pop()
        elif cut and (last[0] == "-" or last[0] == "_" or last[0].isalnum()) and text.endswith(last):
            tokens.pop()
    tokens.append(_END)
    return tokens


class _DocumentReader:
    """Walks the tokens of a document. A method returns False where the grammar fails, `place` there."""

    __slots__ = ("has_selection", "operations", "place", "structures", "tokens")

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0
        self.operations: list[GraphQlOperation] = []
        self.has_selection = False
        self.structures = 0
        """Keywords of definitions, selection sets and lists of arguments that began."""

    @property
    def is_at_end(self) -> bool:
        return self.tokens[self.place] == _END

    def read_definitions(self) -> bool:
        """§2.2: at least one definition."""
        while self._read_definition():
            if self.is_at_end:
                return True
        return False

    def _take(self, token: str) -> bool:
        if self.tokens[self.place] != token:
            return False
        self.place += 1
        return True

    def _take_name(self) -> bool:
        if not is_name(self.tokens[self.place]):
            return False
        self.place += 1
        return True

    def _read_definition(self) -> bool:
        tokens = self.tokens
        if tokens[self.place] == "{":
            self.operations.append(GraphQlOperation(None, "query"))
            return self._read_selection_set()
        if tokens[self.place][0] == '"':
            # A description (§2.2).
            self.place += 1
        keyword = tokens[self.place]
        if keyword == "fragment":
            self.place += 1
            self.structures += 1
            return (
                tokens[self.place] != "on"
                and self._take_name()
                and self._take("on")
                and self._take_name()
                and self._read_directives()
                and self._read_selection_set()
            )
        if keyword not in _OPERATION_TYPES:
            return False
        self.place += 1
        self.structures += 1
        name = tokens[self.place]
        if not self._take_name():
            name = ""
        if tokens[self.place] == "(" and not self._read_variables():
            return False
        if not self._read_directives() or tokens[self.place] != "{":
            return False
        self.operations.append(GraphQlOperation(name or None, keyword))
        return self._read_selection_set()

    def _read_selection_set(self) -> bool:
        """§2.4 to §2.8: from `{` to its `}`, with all sets within it."""
        tokens = self.tokens
        if not self._take("{"):
            return False
        self.structures += 1
        depth = 1
        is_empty = True
        while depth:
            current = tokens[self.place]
            if is_name(current):
                self.place += 1
                self.has_selection = True
                if tokens[self.place] == ":":
                    self.place += 1
                    if not self._take_name():
                        return False
                if tokens[self.place] == "(" and not self._read_arguments():
                    return False
                may_have_set, must_have_set = True, False
            elif current == "...":
                self.place += 1
                may_have_set = must_have_set = not self._is_spread()
                if must_have_set and tokens[self.place] == "on":
                    self.place += 1
                    if not self._take_name():
                        return False
            elif current == "}" and not is_empty:
                self.place += 1
                depth -= 1
                continue
            else:
                return False
            if tokens[self.place] == "@" and not self._read_directives():
                return False
            is_empty = may_have_set and tokens[self.place] == "{"
            if is_empty:
                self.place += 1
                self.structures += 1
                depth += 1
            elif must_have_set:
                return False
        return True

    def _is_spread(self) -> bool:
        """Take the name of a fragment spread; False when an inline fragment follows."""
        return self.tokens[self.place] != "on" and self._take_name()

    def _read_directives(self, *, constant: bool = False) -> bool:
        """§2.13; none is well."""
        while self._take("@"):
            if not self._take_name():
                return False
            if self.tokens[self.place] == "(" and not self._read_arguments(constant=constant):
                return False
        return True

    def _read_arguments(self, *, constant: bool = False) -> bool:
        """§2.7: from `(` to its `)`, at least one."""
        self.place += 1
        self.structures += 1
        while self._take_name():
            if not (self._take(":") and self._read_value(constant=constant)):
                return False
            if self._take(")"):
                return True
        return False

    def _read_variables(self) -> bool:
        """§2.11: from `(` to its `)`, at least one."""
        tokens = self.tokens
        self.place += 1
        self.structures += 1
        while True:
            if tokens[self.place][0] == '"':
                self.place += 1
            if not (self._take("$") and self._take_name() and self._take(":") and self._read_type()):
                return False
            if self._take("=") and not self._read_value(constant=True):
                return False
            if not self._read_directives(constant=True):
                return False
            if self._take(")"):
                return True

    def _read_type(self) -> bool:
        """§2.12."""
        lists = 0
        while self._take("["):
            lists += 1
        if not self._take_name():
            return False
        self._take("!")
        for _ in range(lists):
            if not self._take("]"):
                return False
            self._take("!")
        return True

    def _read_value(self, *, constant: bool) -> bool:
        """§2.10: one value, with all values within it."""
        tokens = self.tokens
        closing: list[str] = []
        while True:
            current = tokens[self.place]
            first = current[0]
            if first == "[":
                closing.append("]")
            elif first == "{":
                closing.append("}")
            elif first == "$" and not constant:
                self.place += 1
                if not is_name(tokens[self.place]):
                    return False
            elif not (
                first == '"' or is_name(current) or (first in "-0123456789" and _NUMBER.fullmatch(current))
            ):
                return False
            self.place += 1
            while closing and tokens[self.place] == closing[-1]:
                self.place += 1
                closing.pop()
            if not closing:
                return True
            if closing[-1] == "}" and not (self._take_name() and self._take(":")):
                return False
