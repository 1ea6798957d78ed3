"""Each room's `__init__.py` is its map: it names everything that stands in the room."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("certs", "mesh", "transport", "sidecar", "control_plane")
MAPS = [found for room in ROOMS for found in sorted((ROOT / room).rglob("__init__.py"))]


@pytest.mark.parametrize("page", MAPS, ids=lambda page: str(page.parent.relative_to(ROOT)))
def test_a_map_names_all_that_is_there(page: Path) -> None:
    text = ast.get_docstring(ast.parse(page.read_text())) or ""
    found = [each for each in page.parent.iterdir() if each.suffix == ".py" or (each / "__init__.py").exists()]
    # `env` is the name that Alembic calls; a migration's file says itself which step it is.
    names = {each.stem for each in found if not re.fullmatch(r"_.*|env|r[0-9]{4}_.*", each.stem)}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()
    assert text
