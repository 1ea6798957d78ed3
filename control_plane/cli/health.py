"""`doorward check`: is everything well, and what to do if not."""

from typing import Any

import click

from control_plane.cli.output import clean, echo_styled, say, styled
from control_plane.cli.session import No, Session, common_options, pass_session

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    epilog="""
    \b
    Exit codes: 0 nothing failed (warnings do not count), 1 something failed, 2 no control plane answered.
    """
)
@common_options
@pass_session
def check(session: Session) -> None:
    """Is everything well? If not, what to do.

    Looks at certificates, the audit log, policies, sidecars and what they want to reach.
    """
    with session.client() as client:
        answer = client.get("/v1/health")
    session.show(answer, lambda: _list(answer["checks"]))
    if any(each["status"] == "fail" for each in answer["checks"]):
        raise No


def _list(checks: list[dict[str, Any]]) -> None:
    width = max(len(each["name"]) for each in checks)
    for each in checks:
        status = styled(f"{each['status']:<4}", _COLOURS[each["status"]], bold=True)
        echo_styled(status, clean(f"{each['name']:<{width}}  {each['detail']}"))
        if each["advice"]:
            say(f"     {'':<{width}}  -> {each['advice']}")
