"""`doorward token`: one-time tokens with which a sidecar proves which workload it is, where no platform does it."""

from datetime import timedelta
from typing import Any

import click

from certs.spiffe import WorkloadName
from control_plane.cli.output import say, table, when
from control_plane.cli.parameters import Duration, Workload
from control_plane.cli.session import Session, common_options, pass_session


@click.group()
@common_options
def token() -> None:
    """Make, list and revoke join tokens."""


@token.command(
    epilog="""
    \b
    Examples:
      doorward token create --workload shop/checkout > checkout.token
      doorward token create --workload shop/checkout --ttl 1h --uses 3 -o json
    """
)
@click.option("--workload", required=True, type=Workload(), help="Whom the token makes its bearer, as namespace/name.")
@click.option("--ttl", type=Duration(), default="10m", show_default=True, help="How long it can be used.")
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="How many sidecars it can start.")
@common_options
@pass_session
def create(session: Session, workload: WorkloadName, ttl: timedelta, uses: int) -> None:
    """Make a join token. It is printed once, alone on standard output, and kept nowhere."""
    body = {"workload": str(workload), "ttl": max(1, round(ttl.total_seconds())), "uses": uses}
    with session.client() as client:
        answer = client.post("/v1/tokens", body)
    session.show(answer, lambda: _created(answer))


def _created(answer: dict[str, Any]) -> None:
    click.echo(answer["token"])
    often = "once" if answer["uses_left"] == 1 else f"{answer['uses_left']} times"
    say(f"Token {answer['id']} for {answer['identity']}: can be used {often}, until {answer['expires']}", err=True)


@token.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List the tokens that are known, without their secrets."""
    with session.client() as client:
        answer = client.get("/v1/tokens")
    rows = (
        (each["id"], each["workload"], each["uses_left"], when(each["expires"]), each["created_by"], when(each["time"]))
        for each in answer["tokens"]
    )
    headers = ("ID", "WORKLOAD", "USES LEFT", "EXPIRES", "BY", "CREATED")
    session.show(answer, lambda: table(headers, rows, empty="no tokens"))


@token.command()
@click.argument("token_id", metavar="ID")
@common_options
@pass_session
def revoke(session: Session, token_id: str) -> None:
    """Make a token worthless. ID is its public name, as `token list` shows it."""
    with session.client() as client:
        answer = client.delete("/v1/tokens", id=token_id)
    session.show(answer, lambda: say(f"Token {answer['revoked']} buys nothing more; what it bought stays: see `ban`."))
