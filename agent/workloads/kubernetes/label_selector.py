"""Label selectors in Kubernetes' own syntax: `app=web,tier in (a,b),!canary`.

Owns the grammar and its meaning, as `k8s.io/apimachinery/pkg/labels` has them (a test holds both to the same
answers). Pure; the client library leaves selectors to the API server, which can't be asked about each pod.

    requirement   KEY | !KEY | KEY = VALUE | KEY == VALUE | KEY != VALUE | KEY > N | KEY < N
                  | KEY in (VALUE, ...) | KEY notin (VALUE, ...)

Requirements are separated by commas and must all hold. `!=` and `notin` also hold where the key is missing;
`=`, `in`, `>` and `<` don't. An empty selector matches everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

MAX_SELECTOR_CHARACTERS = 16_384
"""Longest selector: some hundred values. It is matched against each pod at each change."""

_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+|$)")
_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)", re.ASCII)
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_MAX_KEY_PREFIX = 253
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_PUNCTUATION = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">", ""})


class SelectorError(ValueError):
    """A selector that can't be read. The message says where and what is accepted there."""


class _Operator(Enum):
    EXISTS = "exists"
    MISSING = "!"
    IN = "in"
    NOT_IN = "notin"
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True, slots=True)
class _Requirement:
    key: str
    operator: _Operator
    values: frozenset[str] = frozenset()
    bound: int = 0

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case _Operator.EXISTS:
                return value is not None
            case _Operator.MISSING:
                return value is None
            case _Operator.IN:
                return value is not None and value in self.values
            case _Operator.NOT_IN:
                return value is None or value not in self.values
        if value is None or not _INTEGER.fullmatch(value):
            return False
        return int(value) > self.bound if self.operator is _Operator.GREATER else int(value) < self.bound


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A selector that was read."""

    text: str
    """As it was written, for messages."""
    _requirements: tuple[_Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether every requirement holds for an object's labels."""
        return all(requirement.holds(labels) for requirement in self._requirements)

    def __str__(self) -> str:
        return self.text


def parse_selector(text: str) -> LabelSelector:
    """Return the selector that a text means. Raises SelectorError."""
    if len(text) > MAX_SELECTOR_CHARACTERS:
        raise SelectorError(f"should have at most {MAX_SELECTOR_CHARACTERS} characters")
    return LabelSelector(text, tuple(_Parser(text).requirements()))


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while not self._tokens or self._tokens[-1]:
            found = _TOKEN.match(text, position)
            assert found is not None  # the pattern takes any character
            self._tokens.append(found.group(1))
            position = found.end()
        self._next = 0

    def requirements(self) -> list[_Requirement]:
        if self._peek() == "":
            return []
        found = [self._requirement()]
        while self._peek() == ",":
            self._take()
            found.append(self._requirement())
        if self._peek() != "":
            raise SelectorError(f"{_shown(self._peek())} stands where a comma or the end should be")
        return found

    def _peek(self) -> str:
        return self._tokens[self._next]

    def _take(self) -> str:
        token = self._tokens[self._next]
        if token:
            self._next += 1
        return token

    def _requirement(self) -> _Requirement:
        if self._peek() == "!":
            self._take()
            return _Requirement(self._key(), _Operator.MISSING)
        key = self._key()
        operator = self._peek()
        if operator in ("", ","):
            return _Requirement(key, _Operator.EXISTS)
        self._take()
        match operator:
            case "=" | "==":
                return _Requirement(key, _Operator.IN, frozenset({self._value()}))
            case "!=":
                return _Requirement(key, _Operator.NOT_IN, frozenset({self._value()}))
            case "in":
                return _Requirement(key, _Operator.IN, self._values())
            case "notin":
                return _Requirement(key, _Operator.NOT_IN, self._values())
            case ">":
                return _Requirement(key, _Operator.GREATER, bound=self._integer())
            case "<":
                return _Requirement(key, _Operator.LESS, bound=self._integer())
        raise SelectorError(
            f"{_shown(operator)} follows the key `{key}`, where =, ==, !=, in, notin, > or < should"
        )

    def _key(self) -> str:
        key = self._take()
        if key in _PUNCTUATION:
            raise SelectorError(f"{_shown(key)} stands where the key of a label should be")
        prefix, slash, name = key.rpartition("/")
        if slash and not (len(prefix) <= _MAX_KEY_PREFIX and _DNS_SUBDOMAIN.fullmatch(prefix)):
            raise SelectorError(
                f"`{key}` is no key of a label: the part before the slash should be a DNS name"
            )
        if not _NAME.fullmatch(name):
            raise SelectorError(
                f"`{key}` is no key of a label: 1 to 63 letters, digits, '-', '_' or '.',"
                " a letter or digit at both ends"
            )
        return key

    def _value(self) -> str:
        # `key=` means the empty value, as it does for the API server.
        if self._peek() in ("", ","):
            return ""
        return self._checked_value(self._take())

    def _values(self) -> frozenset[str]:
        opening = self._take()
        if opening != "(":
            raise SelectorError(f"{_shown(opening)} stands where ( and values should")
        values = set()
        while True:
            token = self._peek()
            values.add("" if token in (",", ")") else self._checked_value(self._take()))
            separator = self._take()
            if separator == ")":
                return frozenset(values)
            if separator != ",":
                raise SelectorError(f"{_shown(separator)} stands where a comma or ) should")

    @staticmethod
    def _checked_value(value: str) -> str:
        if value in _PUNCTUATION:
            raise SelectorError(f"{_shown(value)} stands where a value should")
        if not _NAME.fullmatch(value):
            raise SelectorError(
                f"`{value}` is no value of a label: at most 63 letters, digits, '-', '_' or '.',"
                " a letter or digit at both ends"
            )
        return value

    def _integer(self) -> int:
        value = self._take()
        if not _INTEGER.fullmatch(value):
            raise SelectorError(f"{_shown(value)} stands where a whole number should")
        return int(value)


def _shown(token: str) -> str:
    return f"`{token}`" if token else "the end"
