"""`doorward sidecars`: who is connected, and what each of them really enforces."""

import click

from control_plane.cli.output import say, table, when
from control_plane.cli.session import Session, common_options, pass_session

_HEADERS = ("IDENTITY", "ADDRESS", "VERSION", "SNAPSHOT", "CERTIFICATE EXPIRES", "CONNECTED", "INSTANCE")


@click.command(
    epilog="""
    \b
    Examples:
      doorward sidecars
      doorward sidecars -o json | jq '.sidecars[] | select(.current | not)'
    """
)
@common_options
@pass_session
def sidecars(session: Session) -> None:
    """List connected sidecars and what each enforces."""
    with session.client() as client:
        answer = client.get("/v1/sidecars")

    def human() -> None:
        rows = (
            (
                each["identity"],
                each["address"],
                each["version"],
                _snapshot(each["acknowledged"], current=each["current"]),
                when(each["certificate_expires"]),
                when(each["connected_since"]),
                each["instance"],
            )
            for each in answer["sidecars"]
        )
        table(_HEADERS, rows, empty="no sidecar is connected")
        for each in answer["sidecars"]:
            if each["refused"]:
                say(f"{each['identity']} refused a snapshot: {each['refused']['message']}", err=True)

    session.show(answer, human)


def _snapshot(acknowledged: int | None, *, current: bool) -> str:
    if acknowledged is None:
        return "none yet"
    return str(acknowledged) if current else f"{acknowledged} (behind)"
