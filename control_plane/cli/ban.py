"""`doorward ban`: identities and certificates that are refused everywhere, on open connections too."""

import click

from control_plane.cli.output import at, say, table
from control_plane.cli.session import Session, common_options, pass_session

_SUBJECT = "A workload (namespace/name), operator:<name>, a SPIFFE ID, or a certificate as serial:<decimal>."


@click.group(
    epilog="""
    \b
    Examples:
      doorward ban add shop/checkout --reason "key leaked"
      doorward ban add serial:348923847 --reason "stolen laptop"
      doorward ban remove shop/checkout
    """
)
@common_options
def ban() -> None:
    """Refuse identities and certificates everywhere."""


@ban.command(help=f"Refuse SUBJECT from now on. {_SUBJECT}")
@click.argument("subject")
@click.option("--reason", default="", help="Why; it is shown and kept in the audit log.")
@common_options
@pass_session
def add(session: Session, subject: str, reason: str) -> None:
    with session.client() as client:
        answer = client.post("/v1/bans", {"subject": subject, "reason": reason})
    session.show(answer, lambda: say(f"{answer['subject']} is banned; its open connections end at the next snapshot."))


@ban.command(help=f"Lift the ban of SUBJECT. {_SUBJECT}")
@click.argument("subject")
@common_options
@pass_session
def remove(session: Session, subject: str) -> None:
    with session.client() as client:
        answer = client.delete("/v1/bans", subject=subject)
    session.show(answer, lambda: say(f"{answer['lifted']} is no longer banned."))


@ban.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List what is banned."""
    with session.client() as client:
        answer = client.get("/v1/bans")
    rows = ((each["subject"], each["reason"] or None, each["author"], at(each["time"])) for each in answer["bans"])
    session.show(answer, lambda: table(("SUBJECT", "REASON", "BY", "SINCE"), rows, empty="nothing is banned"))
