"""Finds private names of foreign packages in source text, without running it.

A name is private when it, or a module on the way to it, begins with one underscore. It is foreign when it
belongs to something that is imported from outside the product's own packages. Annotations don't run, and what
Python documents of named tuples only looks private.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

OWN_PACKAGES = ("agent", "demo", "ebpf", "otel_bridge", "parsers")
_OF_NAMED_TUPLES = frozenset({"_asdict", "_field_defaults", "_fields", "_make", "_replace"})
_BY_NAME = frozenset({"delattr", "getattr", "hasattr", "setattr"})


@dataclass(frozen=True, order=True)
class Use:
    """A private foreign name in a file: `package.module._name`, `package.module.Class._name`, or `*._name`
    and `(_name=)` where source text doesn't show what it belongs to."""

    name: str
    file: str


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_") != ""


def find_uses(sources: Mapping[str, str]) -> set[Use]:
    """Return every use in these files, given by path."""
    files = {file: _running_nodes(text) for file, text in sources.items()}
    own_names = {name for nodes in files.values() for name in _defined_names(nodes)}
    bases: dict[str, list[str]] = {}
    members: dict[str, set[str]] = {}
    for nodes in files.values():
        imported = dict(_imports(nodes))
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                paths = [_path(base, imported) for base in node.bases]
                bases.setdefault(node.name, []).extend(path for path in paths if path is not None)
                members.setdefault(node.name, set()).update(_defined_names(ast.walk(node)))
    classes = _Classes(bases, members)
    return {
        Use(name, file) for file, nodes in files.items() for name in _File(nodes, own_names, classes).uses()
    }


class _Classes:
    """The product's classes by name, with the paths of their bases and the names that each defines."""

    def __init__(self, bases: Mapping[str, list[str]], members: Mapping[str, set[str]]) -> None:
        self._bases = bases
        self._members = members

    def foreign_base(self, name: str) -> str | None:
        """Return the first base that is imported from outside, however far up."""
        for path in self._bases.get(name, ()):
            if "." in path and _is_foreign(path):
                return path
            base = path.rpartition(".")[2]
            further = None if base == name else self.foreign_base(base)
            if further is not None:
                return further
        return None

    def members(self, name: str) -> set[str]:
        """Return what the class and the product's classes above it define."""
        found = set(self._members.get(name, ()))
        for path in self._bases.get(name, ()):
            if (base := path.rpartition(".")[2]) != name:
                found |= self.members(base)
        return found


class _File:
    def __init__(self, nodes: list[ast.AST], own_names: set[str], classes: _Classes) -> None:
        self._nodes = nodes
        self._own_names = own_names
        self._classes = classes
        self._imported = dict(_imports(nodes))
        self._roots = {path.partition(".")[0] for path in self._imported.values()}

    def uses(self) -> Iterator[str]:
        for name in self._imported.values():
            if _is_foreign(name) and any(map(is_private, name.split("."))):
                yield name
        for node in self._nodes:
            if isinstance(node, ast.ClassDef):
                yield from self._inherited(node)
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                yield from self._attribute(node.value, node.attr)
            elif isinstance(node, ast.Call):
                yield from self._call(node)

    def _attribute(self, owner: ast.expr, name: str) -> Iterator[str]:
        """An attribute of anything but `self` and `super()`, which `_inherited` looks at."""
        if ast.unparse(owner) in ("self", "cls", "super()"):
            return
        path = _path(owner, self._imported)
        if path is not None and path.partition(".")[0] in self._roots:
            if _is_foreign(path):
                yield f"{path}.{name}"
        elif name not in self._own_names and name not in _OF_NAMED_TUPLES:
            yield f"*.{name}"

    def _call(self, call: ast.Call) -> Iterator[str]:
        if isinstance(call.func, ast.Name) and call.func.id in _BY_NAME and len(call.args) > 1:
            owner, name = call.args[:2]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and is_private(name.value):
                yield from self._attribute(owner, name.value)
        for keyword in call.keywords:
            if keyword.arg is not None and is_private(keyword.arg) and keyword.arg not in self._own_names:
                yield f"({keyword.arg}=)"

    def _inherited(self, defined: ast.ClassDef) -> Iterator[str]:
        """Attributes of `self` that no own class defines, in a class with a foreign base."""
        base = self._classes.foreign_base(defined.name)
        if base is None:
            return
        own = self._classes.members(defined.name)
        methods = [node for node in defined.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in (node for method in methods for node in ast.walk(method)):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                owner = ast.unparse(node.value)
                if owner == "super()" or (owner in ("self", "cls") and node.attr not in own):
                    yield f"{base}.{node.attr}"


def _path(expression: ast.expr, imported: Mapping[str, str]) -> str | None:
    """Return what an expression such as `sessions.Session[int]` names, by the imports of its file."""
    if isinstance(expression, ast.Subscript):
        return _path(expression.value, imported)
    if isinstance(expression, ast.Attribute):
        owner = _path(expression.value, imported)
        return None if owner is None else f"{owner}.{expression.attr}"
    return imported.get(expression.id, expression.id) if isinstance(expression, ast.Name) else None


def _is_foreign(path: str) -> bool:
    return path.partition(".")[0] not in (*OWN_PACKAGES, "__future__")


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield what each imported name stands for."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
                if not alias.asname and any(map(is_private, alias.name.split("."))):
                    yield alias.name, alias.name


def _defined_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names that source text defines: of functions, variables, attributes, slots, arguments."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Assign) and "__slots__" in _names(node.targets):
            yield from (
                each.value
                for each in ast.walk(node.value)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def _names(nodes: Iterable[ast.expr]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _running_nodes(text: str) -> list[ast.AST]:
    """Return the nodes of a source text, annotations left out."""
    nodes: list[ast.AST] = []
    ahead: list[ast.AST] = [ast.parse(text)]
    while ahead:
        node = ahead.pop()
        nodes.append(node)
        if isinstance(node, ast.AnnAssign | ast.arg):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        ahead.extend(ast.iter_child_nodes(node))
    return nodes
