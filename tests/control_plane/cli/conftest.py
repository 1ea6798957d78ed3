"""The command in this process, and the admin API that it talks to."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from control_plane.cli.root import run
from tests.support.admin import AdminHouse, admin_house


@frozen
class Answer:
    """What one command line did."""

    exit: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Doorward = Callable[..., Answer]


@pytest.fixture
def doorward(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doorward:
    """Runs a command line; `stdin` is what it reads there. It has no contexts but those that the test adds."""
    for name in ("DOORWARD_ADMIN", "DOORWARD_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOORWARD_CONTEXTS", str(tmp_path / "contexts"))

    def ran(*arguments: str, stdin: str = "") -> Answer:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        status = run(arguments)
        return Answer(status, *capsys.readouterr())

    return ran


@pytest.fixture
def house(short_directory: Path) -> Iterator[AdminHouse]:
    with admin_house(short_directory) as house:
        yield house


@pytest.fixture
def admin(house: AdminHouse, doorward: Doorward) -> Doorward:
    """As `doorward`, talking to `house`."""
    return lambda *arguments, stdin="": doorward("--admin", str(house.socket), *arguments, stdin=stdin)
