"""The commands that a page of the documentation tells its reader to type, in their order."""

import re
import shlex
from pathlib import Path
from typing import Final, Self

from attrs import frozen

_BLOCK: Final = re.compile(r"```console\n(.*?)```", re.DOTALL)


@frozen
class Command:
    """One line of a console: programs joined by `|`, each as words; `background` where it ends in `&`."""

    text: str
    programs: tuple[tuple[str, ...], ...]
    background: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what stands behind the prompt. Comments are left out."""
        words = shlex.split(text, comments=True)
        background = words[-1] == "&"
        programs: list[list[str]] = [[]]
        for word in words[:-1] if background else words:
            if word == "|":
                programs.append([])
            else:
                programs[-1].append(word)
        return cls(text, tuple(map(tuple, programs)), background)


def commands(page: Path, heading: str = "") -> list[Command]:
    """Every line behind a prompt `$ ` in the page's console blocks; a backslash at its end joins the next.

    `heading` leaves only the section below that line, such as `## In a cluster`.
    """
    text = page.read_text(encoding="utf-8")
    if heading:
        text = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    found = []
    for block in _BLOCK.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        found += [Command.read(line.strip()[2:]) for line in lines if line.strip().startswith("$ ")]
    return found
