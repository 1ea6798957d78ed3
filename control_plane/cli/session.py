"""What every command is given: how to show its answer, and how to reach the control plane.

`--output` and `--admin` are accepted before and after the subcommand; the later one wins. The two are parameters of
every command, made by `common_options`, and end up in the one Session of the invocation.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import define

from control_plane.cli.output import FORMATS, show

if TYPE_CHECKING:
    from control_plane.admin.client import Client

DEFAULT_STATE = Path("/var/lib/doorward")
SOCKET_NAME = "admin.sock"

F = TypeVar("F", bound=Callable[..., Any])


class No(Exception):
    """The answer is no: exit code 1, with nothing more to say."""


@define
class Session:
    """One invocation."""

    output: str = "table"
    admin: Path = DEFAULT_STATE / SOCKET_NAME

    def client(self) -> "AbstractContextManager[Client]":
        """A client of the control plane's admin API."""
        from control_plane.admin.client import Client

        return Client(self.admin / SOCKET_NAME if _is_directory(self.admin) else self.admin)

    def show(self, value: Any, human: Callable[[], None]) -> None:
        """Show `value` in the chosen format."""
        show(self.output, value, human)


def _is_directory(path: Path) -> bool:
    """False also where this user may not even look: the client then says so."""
    try:
        return path.is_dir()
    except PermissionError:
        return False


pass_session = click.make_pass_decorator(Session, ensure=True)


def common_options(command: F) -> F:
    """Add `-o/--output` and `--admin` to a command or group."""
    output = click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        expose_value=False,
        callback=_setter("output"),
        help="How to show the answer.  [default: table]",
    )
    admin = click.option(
        "--admin",
        metavar="SOCKET",
        type=click.Path(path_type=Path),
        envvar="DOORWARD_ADMIN",
        expose_value=False,
        callback=_setter("admin"),
        help="The control plane's admin socket, or its state directory; also DOORWARD_ADMIN."
        f"  [default: {DEFAULT_STATE / SOCKET_NAME}]",
    )
    return output(admin(command))


def _setter(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def set_it(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is None or (_from_environment(context, parameter) and context.parent is not None):
            return
        setattr(context.ensure_object(Session), name, value)

    return set_it


def _from_environment(context: click.Context, parameter: click.Parameter) -> bool:
    """Whether the value came from the environment: it must not override an option given before the subcommand."""
    assert parameter.name is not None
    return context.get_parameter_source(parameter.name) is click.core.ParameterSource.ENVIRONMENT
