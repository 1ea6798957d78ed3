"""The table in docs/security.md names every law, every test of this room, and only tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/security.md"
LAWS = range(1, 32)


def table() -> dict[int, list[str]]:
    """The tests of each row, by the number of its law."""
    rows = re.findall(r"^\| ([0-9]+) \|.*\| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len({number for number, _ in rows}) == len(rows), "one row for each law"
    return {int(number): re.findall(r"`([^`]+)`", tests) for number, tests in rows}


def names_in(path: Path) -> set[str]:
    """`path::test` of every test in a file, path below tests/, with its class where it has one."""
    found = set()
    for top in ast.parse(path.read_text(encoding="utf-8")).body:
        inside = top.body if isinstance(top, ast.ClassDef) else [top]
        prefix = f"{top.name}::" if isinstance(top, ast.ClassDef) else ""
        functions = (each for each in inside if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
        found |= {f"{path.relative_to(TESTS)}::{prefix}{each.name}" for each in functions}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_the_table_names_every_law_in_order() -> None:
    assert list(table()) == list(LAWS)


def test_the_table_names_only_tests_that_exist() -> None:
    named = {test for tests in table().values() for test in tests}
    files = {TESTS / test.partition("::")[0] for test in named}
    assert [str(path) for path in files if not path.is_file()] == []
    assert sorted(named - {test for path in files for test in names_in(path)}) == []


def test_each_row_names_exactly_the_tests_of_its_law() -> None:
    rows = table()
    for number in LAWS:
        pattern = f"::test_law_{number:02}_"
        ours = {test for path in (TESTS / "laws").glob("test_*.py") for test in names_in(path) if pattern in test}
        assert ours, f"law {number} has no test of its name"
        assert {test for test in rows[number] if test.startswith("laws/")} == ours, f"law {number}"
