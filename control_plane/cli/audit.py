"""`doorward audit`: the log of every change and issuance, and the proof that nobody has rewritten it."""

import json

import click

from control_plane.cli.output import at, echo_styled, say, styled, table
from control_plane.cli.session import No, Session, common_options, pass_session


@click.group()
@common_options
def audit() -> None:
    """Read and verify the audit log."""


@audit.command(
    epilog="""
    \b
    Exit codes: 0 intact, 1 not intact, 2 error.
    """
)
@common_options
@pass_session
def verify(session: Session) -> None:
    """Check that no entry was changed or lost, and that the policies in force are what the log says."""
    with session.client() as client:
        answer = client.get("/v1/audit/verification")

    def human() -> None:
        if answer["intact"]:
            gone = f", of which {answer['pruned']} were pruned" if answer["pruned"] else ""
            echo_styled(styled("intact", "green", bold=True), f"{answer['entries']} entries{gone}")
        else:
            echo_styled(styled("BROKEN", "red", bold=True), f"at entry {answer['first_bad']}")
            say(f"  {answer['message']}")

    session.show(answer, human)
    if not answer["intact"]:
        raise No


@audit.command("list")
@click.option("--after", type=click.IntRange(0), default=0, help="Only entries with a higher number.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="At most so many.")
@common_options
@pass_session
def list_(session: Session, after: int, limit: int) -> None:
    """List entries, oldest first. Where numbers are left out, entries were pruned."""
    with session.client() as client:
        answer = client.get("/v1/audit", after=after, limit=limit)
    rows = (
        (each["seq"], at(each["time"]), each["actor"], each["event"], json.dumps(each["detail"], ensure_ascii=False))
        for each in answer["entries"]
    )
    session.show(answer, lambda: table(("SEQ", "TIME", "ACTOR", "EVENT", "DETAIL"), rows, empty="no entries"))
