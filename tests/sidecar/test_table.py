"""The table of settings is whole: every field has a row, every row a line in the documentation."""

from pathlib import Path

import attrs

from sidecar import table
from sidecar.settings import Limits, Settings

DOCS = Path(__file__).parents[2] / "docs/configuration/sidecar.md"


def test_every_setting_and_every_limit_has_a_row() -> None:
    settings = {name for name in attrs.fields_dict(Settings) if name != "limits"}
    assert {row.name for row in table.ROWS if not row.limit} == settings
    assert {row.name for row in table.ROWS if row.limit} == set(attrs.fields_dict(Limits))


def test_every_default_reads_back_as_itself() -> None:
    for row in table.ROWS:
        if text := table.default_of(row):
            value = row.parse(text)
            assert str(value).lower() == text.lower() or row.limit, row.name
            if row.limit:
                assert value == getattr(Limits(), row.name), row.name


def test_the_documentation_carries_the_table_as_it_is() -> None:
    assert "\n".join(table.reference()) in DOCS.read_text(encoding="utf-8")
