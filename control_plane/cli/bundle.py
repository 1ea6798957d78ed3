"""`doorward bundle`: the roots that sidecars pin before they say anything."""

import click

from control_plane.cli.session import Session, common_options, pass_session


@click.group()
@common_options
def bundle() -> None:
    """Show the trust bundle."""


@bundle.command(
    epilog="""
    \b
    Examples:
      doorward bundle show > bundle.pem
      doorward bundle show -o json
    """
)
@common_options
@pass_session
def show(session: Session) -> None:
    """Print the trust bundle as PEM: what a sidecar gets by --bundle."""
    with session.client() as client:
        answer = client.get("/v1/bundle")
    session.show(answer, lambda: click.echo(answer["pem"], nl=False))
