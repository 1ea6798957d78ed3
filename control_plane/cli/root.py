"""The `doorward` group: subcommands that load when they are named, one way to fail, three exit codes.

0 is yes, 1 is no (denied, not enforced, not well), 2 is a usage error or a failure; so 1 never means that something
broke. 130 is an interrupt.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from control_plane.cli.output import clean, echo_styled, say, styled
from control_plane.cli.session import No, common_options

YES, NO, ERROR, INTERRUPTED = 0, 1, 2, 130
NOWHERE_TO_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

COMMANDS = {
    "control-plane": "control_plane.cli.run:control_plane",
    "bundle": "control_plane.cli.bundle:bundle",
    "token": "control_plane.cli.token:token",
    "policy": "control_plane.cli.policy:policy",
    "inject": "control_plane.cli.inject:inject",
    "sidecars": "control_plane.cli.sidecars:sidecars",
    "services": "control_plane.cli.services:services",
    "check": "control_plane.cli.health:check",
    "ban": "control_plane.cli.ban:ban",
    "injection": "control_plane.cli.injection:injection",
    "operator": "control_plane.cli.operator:operator",
    "context": "control_plane.cli.context:context",
    "audit": "control_plane.cli.audit:audit",
    "completion": "control_plane.cli.completion:completion",
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are asked for, in the order of `lazy`."""

    def __init__(self, *arguments: Any, lazy: dict[str, str], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the table's order."""
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand's module and return the command in it."""
        del ctx
        if cmd_name not in self.lazy:
            return None
        module, _, name = self.lazy[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"doorward {version('doorward')}")
        context.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
    \b
    Examples:
      doorward control-plane run --state ./state
      export DOORWARD_ADMIN=./state
      doorward token create --workload shop/checkout > checkout.token
      doorward policy apply -f examples/shop --wait 10
      doorward policy check --from shop/checkout --to shop/payments:8080 --request "POST /charges"
      doorward sidecars -o json

    Exit codes: 0 yes, 1 no or denied, 2 usage or error.
    """,
)
@common_options
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say which.")
def doorward() -> None:
    """Doorward, a doorkeeper beside every service: run the control plane and say who may call whom."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Every failure becomes a message on standard error and 2."""
    _replace_closed_streams()
    try:
        result = doorward.main(list(arguments), prog_name="doorward", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except No:
        return NO
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        _say_lines(said.getvalue())
        return ERROR
    except SystemExit as exit_:  # click's and rich's answer to a reader that went away, and the end of completion
        return ERROR if exit_.code else YES
    except ModuleNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001 # the last wall: a traceback would exit with 1, which means no
        return _failed(error)
    return result if isinstance(result, int) else YES


def _replace_closed_streams() -> None:
    """A standard stream that the caller closed becomes the null device: Python would leave None in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 # open while the process lives


def _give_up_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter would fail at it again, and exit with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _failed(error: Exception) -> int:
    from control_plane.admin.errors import AdminError, AdminRefused
    from mesh.policy import PolicyFaults

    if isinstance(error, AdminError):
        _complain(str(error), error.faults if isinstance(error, AdminRefused) else ())
    elif isinstance(error, PolicyFaults):
        count = len(error.faults)
        _complain(f"{count} fault{'s' if count > 1 else ''} in the policies", [str(fault) for fault in error.faults])
    elif isinstance(error, OSError) and error.errno in NOWHERE_TO_WRITE:
        _give_up_stdout()
        _complain(f"what was to be shown cannot be written: {error.strerror}")
    else:
        import traceback

        _say_lines("".join(traceback.format_exception(error)))
        _complain("this is a fault of doorward itself: please report it with the lines above")
    return ERROR


def _say_lines(text: str) -> None:
    """Each line of `text` to standard error, cleaned: it may quote what was typed, or sent."""
    for line in text.removesuffix("\n").split("\n"):
        say(line, err=True)


def _complain(message: str, details: Sequence[str] = ()) -> None:
    echo_styled(styled("Error:", "red", bold=True, err=True), clean(message), err=True)
    for detail in details:
        say(f"  {detail}", err=True)
