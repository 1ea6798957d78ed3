"""`doorward control-plane run`: from options to settings, and from there to control_plane.program."""

from typing import Any

import click

from control_plane.cli import settings


@click.group("control-plane")
def control_plane() -> None:
    """Run the control plane."""


@control_plane.command(
    epilog="""
    \b
    Examples:
      doorward control-plane run --state ./state
      doorward control-plane run --state /var/lib/doorward --listen 0.0.0.0:7443 --trust-domain example.org
      DOORWARD_CONTROL_PLANE_STATE=./state doorward control-plane run

    Every option can be set by the environment as DOORWARD_CONTROL_PLANE_<OPTION>. SIGTERM or Ctrl-C ends it, exit 0.
    """
)
@settings.options
def run(**values: Any) -> None:
    """Issue certificates, keep the policies and push them to the sidecars, until stopped."""
    try:
        chosen = settings.build(values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    import trio

    from control_plane import program

    try:
        trio.run(program.run, chosen)
    except program.CannotStart as error:
        raise click.ClickException(str(error)) from error
