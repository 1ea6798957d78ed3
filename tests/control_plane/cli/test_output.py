"""What a command shows, apart from which command it is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.output import clean, span, table, when

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@given(st.text())
def test_nothing_that_drives_a_terminal_gets_through(text):
    shown = clean(text)
    assert shown.isprintable()


def test_what_is_printable_stays_as_it_is():
    assert clean("grüße, 世界") == "grüße, 世界"
    assert clean("\x1b[31mred\r") == "\\x1b[31mred\\r"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.4, "0s"), (59.6, "1m"), (61, "1m1s"), (3600, "1h"), (3661, "1h1m"), (90000, "1d1h"), (86401, "1d")],
)
def test_a_span_has_its_two_largest_units(seconds, text):
    assert span(seconds) == text


def test_a_moment_is_shown_from_now():
    assert when((NOW + timedelta(minutes=42)).isoformat(), NOW) == "in 42m"
    assert when((NOW - timedelta(hours=3)).isoformat(), NOW) == "3h ago"
    assert when(None, NOW) is None


def test_a_table_in_a_pipe_is_never_cut_and_has_no_trailing_blanks(capsys):
    table(("NAME", "DETAIL"), [("a", "x" * 300), ("bb", None)], empty="none")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "NAME  DETAIL"
    assert first == "a     " + "x" * 300
    assert second == "bb    -"


def test_a_table_treats_its_cells_as_text(capsys):
    table(("NAME",), [("[red]x[/red]",), ("a\nb",), ("\x1b[2J",)], empty="none")
    assert capsys.readouterr().out.splitlines() == ["NAME", "[red]x[/red]", "a\\nb", "\\x1b[2J"]


def test_an_empty_table_says_so(capsys):
    table(("NAME",), [], empty="nothing is here")
    assert capsys.readouterr().out == "nothing is here\n"
