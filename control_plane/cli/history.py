"""`doorward policy history`: who changed which policies, when and why, as far as it is kept."""

from collections.abc import Sequence
from typing import Any

import click

from control_plane.cli.changing import show_difference
from control_plane.cli.output import at, clean, echo_styled, say, styled, table
from control_plane.cli.session import Session, common_options, pass_session


@click.command(
    epilog="""
    \b
    Examples:
      doorward policy history
      doorward policy history shop/checkout-calls-payments --diff
      doorward policy history shop/
      doorward policy history --revision 12
    """
)
@click.argument("names", nargs=-1, metavar="[NAMESPACE/NAME]")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--diff", is_flag=True, help="Also show what each revision changed.")
@click.option("--revision", type=click.IntRange(1), help="That one alone, with what it changed.")
@common_options
@pass_session
def history(session: Session, names: Sequence[str], limit: int, diff: bool, revision: int | None) -> None:
    """List the revisions of the policies that are kept, newest first: of all, of one, or of a namespace (`shop/`)."""
    asked = {"limit": limit, **_asked(names, revision)}
    with session.client() as client:
        answer = client.get("/v1/revisions", **asked)
    session.show(answer, lambda: _show(answer, diff=diff or revision is not None))


def _asked(names: Sequence[str], revision: int | None) -> dict[str, Any]:
    if revision is not None:
        if names:
            raise click.UsageError("--revision shows one revision, all of it: leave the name out.")
        return {"number": revision}
    if not names:
        return {}
    namespace, slash, name = names[0].partition("/")
    if len(names) > 1 or not slash or not namespace:
        raise click.UsageError(
            "history takes one name, as NAMESPACE/NAME, or NAMESPACE/ for all of a namespace; policies of other kinds "
            "with the same name are listed too."
        )
    return {"namespace": namespace, **({"name": name} if name else {})}


def _show(answer: dict[str, Any], *, diff: bool) -> None:
    (_differences if diff else _overview)(answer["revisions"])
    if answer["pruned"]["versions"]:
        versions, through = answer["pruned"]["versions"], answer["pruned"]["through"]
        say(f"Pruned so far: {versions} versions, up to revision {through}. `doorward audit list` may tell of them.")


def _overview(revisions: Sequence[dict[str, Any]]) -> None:
    rows = (
        (each["number"], at(each["time"]), each["author"], _counts(each), each["message"] or None) for each in revisions
    )
    table(("REVISION", "TIME", "BY", "CHANGES", "MESSAGE"), rows, empty="no change of a policy is known")


def _differences(revisions: Sequence[dict[str, Any]]) -> None:
    for each in revisions:
        head = styled(f"revision {each['number']}", "yellow", bold=True)
        echo_styled(head, clean(f"{at(each['time'])} by {each['author']}  {each['message']}"))
        for one in each["changes"]:
            if one["action"] != "unchanged":
                say(f"  {one['action']} {one['kind']} {one['namespace']}/{one['name']}")
                show_difference(one)
        if each["pruned"]:
            say(f"  and {each['pruned']} more, which are not kept any more")


def _counts(revision: dict[str, Any]) -> str:
    signs = {"+": ("added",), "~": ("replaced", "released"), "-": ("removed",)}
    changes = revision["changes"]
    counts = [(sign, sum(each["action"] in actions for each in changes)) for sign, actions in signs.items()]
    words = [f"{sign}{count}" for sign, count in counts if count]
    words += [f"{revision['pruned']} pruned"] if revision["pruned"] else []
    return " ".join(words) or "none"
