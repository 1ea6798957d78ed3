"""What every command is given: how to show its answer, and how to reach the control plane.

`--output`, `--admin` and `--context` are accepted before and after the subcommand; the later one wins. They are
parameters of every command, made by `common_options`, and end up in the one Session of the invocation.

Which control plane: an option wins over the environment, `--admin` and DOORWARD_ADMIN over a context's name, that over
the current context; where there is none of these, the default socket.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import Factory, define

from control_plane.cli.output import FORMATS, show

if TYPE_CHECKING:
    from control_plane.admin.client import Client
    from control_plane.admin.context import Context

DEFAULT_STATE = Path("/var/lib/doorward")
SOCKET_NAME = "admin.sock"

F = TypeVar("F", bound=Callable[..., Any])


class No(Exception):
    """The answer is no: exit code 1, with nothing more to say."""


@define
class Session:
    """One invocation."""

    output: str = "table"
    admin: Path | None = None
    context: str | None = None
    options: set[str] = Factory(set)
    """Which of them the command line named, not the environment."""

    def client(self) -> "AbstractContextManager[Client]":
        """A client of the control plane's admin API. Raises ContextRefused, click.UsageError."""
        from control_plane.admin.client import Client

        chosen = self.chosen_context()
        if chosen is not None:
            from control_plane.admin.tls_door import TlsDoor

            return Client(TlsDoor(chosen))
        admin = self.admin or DEFAULT_STATE / SOCKET_NAME
        return Client(admin / SOCKET_NAME if _is_directory(admin) else admin)

    def chosen_context(self) -> "Context | None":
        """The context by which the control plane is asked; None where it is asked on a Unix socket."""
        if self.options >= {"admin", "context"}:
            raise click.UsageError("--admin and --context name two control planes: give one of them")
        if self.admin is not None and "context" not in self.options:
            return None
        from control_plane.cli.contexts import Contexts

        contexts = Contexts.of_user()
        name = self.context or contexts.current()
        if name is None:
            return None
        content = contexts.read(name)
        from control_plane.admin.context import Context

        return Context.parse(content)

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
    """Add `-o/--output`, `--admin` and `--context` to a command or group."""
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
    context = click.option(
        "--context",
        metavar="NAME",
        envvar="DOORWARD_CONTEXT",
        expose_value=False,
        callback=_setter("context"),
        help="Reach the control plane by this context instead; also DOORWARD_CONTEXT.  [default: the current one]",
    )
    return output(admin(context(command)))


def _setter(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def set_it(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is None or (_from_environment(context, parameter) and context.parent is not None):
            return
        session = context.ensure_object(Session)
        setattr(session, name, value)
        if not _from_environment(context, parameter):
            session.options.add(name)

    return set_it


def _from_environment(context: click.Context, parameter: click.Parameter) -> bool:
    """Whether the value came from the environment: it must not override an option given before the subcommand."""
    assert parameter.name is not None
    return context.get_parameter_source(parameter.name) is click.core.ParameterSource.ENVIRONMENT
