"""No modules import each other in a circle, wherever in them an import stands."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ebpf", "parsers", "otel_bridge", "agent")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
}


def imported_modules(path: Path) -> set[str]:
    """Name what a file imports of this project, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names & MODULES.keys()


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_one_that_needs_it() -> None:
    imports = {name: imported_modules(path) for name, path in MODULES.items()}
    assert "parsers.stream" in imports["parsers.connection"], "imports are found at all"
    assert find_circle(imports) == []


def test_a_circle_is_found_also_where_an_import_stands_inside_a_function(tmp_path: Path) -> None:
    late = tmp_path / "late.py"
    late.write_text("def read():\n    from parsers.stream import Piece\n    return Piece\n")
    assert imported_modules(late) == {"parsers.stream"}
    assert set(find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
