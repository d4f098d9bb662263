"""The rules that CONTRIBUTING.md sets for tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.growth import FACTOR, assert_not_quadratic

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}


@cache
def nodes(module: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse((ROOT / module).read_text())))


@cache
def decorated(module: Path, decorator: str) -> frozenset[str]:
    """Return the functions of a module that have a decorator, with whatever arguments."""
    return frozenset(
        node.name
        for node in nodes(module)
        if isinstance(node, ast.FunctionDef)
        and decorator in {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
    )


def imported_fixtures(module: Path) -> Iterator[str]:
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            source = Path(*node.module.split(".")).with_suffix(".py")
            if source in MODULES:
                yield from {alias.name for alias in node.names} & decorated(source, "pytest.fixture")


def bounded_durations(module: Iterable[ast.AST]) -> Iterator[int]:
    """Yield the lines that assert that something took less than a time."""
    module = tuple(module)
    durations = {
        ast.unparse(target)
        for node in module
        if isinstance(node, ast.Assign) and is_duration(node.value)
        for target in node.targets
    }
    for node in module:
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            values = [node.test.left, *node.test.comparators]
            for operator, left, right in zip(node.test.ops, values, values[1:], strict=False):
                bounded = right if isinstance(operator, ast.Gt | ast.GtE) else left
                if any(is_duration(part) or names(part, durations) for part in ast.walk(bounded)):
                    yield node.lineno


def is_duration(node: ast.AST) -> bool:
    """Return whether an expression subtracts from a reading of a clock."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and isinstance(node.left, ast.Call)
        and ast.unparse(node.left.func).removeprefix("time.").removesuffix("_ns") in CLOCKS
    )


def names(node: ast.AST, variables: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in variables


def test_fixtures_are_found_by_their_name() -> None:
    imported = {module: sorted(imported_fixtures(module)) for module in MODULES}
    assert {module: found for module, found in imported.items() if found} == {}


def test_no_test_is_timed() -> None:
    lines = {module: list(bounded_durations(nodes(module))) for module in MODULES}
    assert {module: found for module, found in lines.items() if found} == {}


def test_a_timed_test_is_found() -> None:
    timed = ast.parse(
        "assert time.monotonic() - began < 3\n"
        "assert 5 > abs(monotonic_ns() - began)\n"
        "took = time.process_time() - began\n"
        "assert took <= 3\n"
        "assert time.monotonic() < deadline\n"
        "assert time.monotonic() - began >= 0.5\n"
    )
    assert list(bounded_durations(ast.walk(timed))) == [1, 2, 4]


def test_the_guards_against_quadratic_growth_are_named() -> None:
    named = re.findall(r"^\| `(test_\w+)` \| `(tests/[\w/]+\.py)` \|", CONTRIBUTING, re.MULTILINE)
    guards = {(name, str(module)) for module in MODULES for name in decorated(module, "pytest.mark.growth")}
    assert guards == set(named)


def test_quadratic_growth_is_found() -> None:
    def work(length: int) -> int:
        return sum(sum(range(length)) for _ in range(length))

    with pytest.raises(AssertionError, match="processor time"):
        assert_not_quadratic(lambda: work(200), lambda: work(FACTOR * 200))
    assert_not_quadratic(lambda: work(200), lambda: [work(200) for _ in range(FACTOR)])
