"""What a command shows: one plain value, as a table for people or as JSON or YAML for programs.

Colour appears on a terminal only, never where NO_COLOR is set or TERM is dumb. Texts that came from elsewhere are
cleaned of control characters before a terminal sees them. A table that goes into a pipe is as wide as it needs to be
and never cut. rich is imported for tables only: it is a third of the start time of a command.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import click

FORMATS = ("table", "json", "yaml")

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def colourful(stream: TextIO) -> bool:
    """Whether `stream` is a terminal whose user has not said no to colour (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(output: str, value: Any, human: Callable[[], None]) -> None:
    """Write `value` to standard output as JSON or YAML, or let `human` write it for a person."""
    if output == "json":
        click.echo(json.dumps(value, indent=2))
    elif output == "yaml":
        from control_plane.yaml_core import to_yaml

        click.echo(to_yaml(value), nl=False)
    else:
        human()


def say(text: str = "", *, err: bool = False) -> None:
    """One line for a person, cleaned, without colour."""
    click.echo(clean(text), err=err)


def styled(text: str, colour: str, *, bold: bool = False, err: bool = False) -> str:
    """`text`, cleaned, in `colour` where the stream that it goes to shows colour."""
    stream = sys.stderr if err else sys.stdout
    return click.style(clean(text), fg=colour, bold=bold) if colourful(stream) else clean(text)


def echo_styled(*parts: str, err: bool = False) -> None:
    """One line of parts that `styled` or `clean` made."""
    click.echo(" ".join(parts), err=err, color=colourful(sys.stderr if err else sys.stdout))


def clean(text: str) -> str:
    """`text` with line ends and control characters as escapes: what a sidecar sent draws no lines of its own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write rows under headers; `empty` is said where there are none. Cells of None show as a dash."""
    lines = [["-" if cell is None else clean(str(cell)) for cell in row] for row in rows]
    if not lines:
        say(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD if colourful(sys.stdout) else None, pad_edge=False, header_style="bold")
    for header in headers:
        grid.add_column(Text(header), overflow="fold", no_wrap=not sys.stdout.isatty())
    for line in lines:
        grid.add_row(*(Text(cell) for cell in line))
    colour = colourful(sys.stdout)
    width = None if sys.stdout.isatty() else 10_000
    console = Console(file=sys.stdout, force_terminal=colour, no_color=not colour, width=width, highlight=False)
    with console.capture() as captured:
        console.print(grid)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=colour)


def span(seconds: float) -> str:
    """A duration for people: its two largest units, such as `1h12m`."""
    left = round(abs(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size}{unit}")
            left %= size
        elif parts:
            break
    return "".join(parts[:2])


def when(iso: str | None, now: datetime | None = None) -> str | None:
    """A moment for people: `in 42m` or `3m ago`. `iso` is what the admin API sent; None stays None."""
    if iso is None:
        return None
    seconds = (datetime.fromisoformat(iso) - (now or datetime.now(UTC))).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def at(iso: str) -> str:
    """A moment for people who compare moments: `2026-11-22 07:36:20`, UTC. `iso` is what the admin API sent."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
