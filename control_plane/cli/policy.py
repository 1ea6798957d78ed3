"""`doorward policy`: who may call whom. Changes are all or nothing, numbered, and counted where they are enforced."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from control_plane.cli.deciding import PATHS, check, lint, read_files
from control_plane.cli.enforcing import wait_until_enforced
from control_plane.cli.output import at, clean, echo_styled, say, styled, table, when
from control_plane.cli.parameters import Duration
from control_plane.cli.session import No, Session, common_options, pass_session

_COLOURS = {
    "added": "green",
    "replaced": "yellow",
    "removed": "red",
    "unchanged": "bright_black",
    "released": "yellow",
}
_KINDS = ("AllowPolicy", "DenyPolicy", "NamespaceDefaults")
_LEFT_NAMED = 10

wait_option = click.option(
    "--wait",
    type=Duration(),
    metavar="DURATION",
    help="Wait until every connected sidecar concerned enforces it; exit 1 if that takes longer.",
)
message_option = click.option("-m", "--message", default="", help="Why; it is kept with the revision.")


@click.group()
@common_options
def policy() -> None:
    """Apply, show, check and delete policies."""


policy.add_command(check)
policy.add_command(lint)


@policy.command(
    epilog="""
    \b
    Examples:
      doorward policy apply -f examples/shop -m "checkout may charge" --wait 10
      doorward policy apply -f policies/ --prune --dry-run
      generate-policies | doorward policy apply -f -
    """
)
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE|DIR", type=PATHS, help="- is stdin.")
@click.option("--prune", is_flag=True, help="Also remove every policy of the command that the files lack.")
@click.option("--dry-run", is_flag=True, help="Say what would change, with the difference, and store nothing.")
@message_option
@wait_option
@common_options
@pass_session
def apply(
    session: Session,
    files: Sequence[Path],
    prune: bool,
    dry_run: bool,
    message: str,
    wait: timedelta | None,
) -> None:
    """Add or replace policies, all or none. With several faults nothing is stored and all are listed."""
    documents = [{"source": each.source, "index": each.index, "content": each.content} for each in read_files(files)]
    _change(session, {"put": documents, "prune": prune, "dry_run": dry_run, "message": message}, wait)


@policy.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--kind", type=click.Choice(_KINDS), help="Only this kind.")
@message_option
@wait_option
@common_options
@pass_session
def delete(session: Session, names: Sequence[str], kind: str | None, message: str, wait: timedelta | None) -> None:
    """Delete policies. NAME is namespace/name, or a name alone where it is the only one of that name."""
    with session.client() as client:
        stored = client.get("/v1/policies")["policies"]
    keys = [_only_one(name, kind, stored) for name in names]
    _change(session, {"delete": keys, "message": message}, wait)


@policy.command(
    epilog="""
    \b
    Examples:
      doorward policy release AllowPolicy shop/checkout-calls-payments
    """
)
@click.argument("kind", metavar="KIND", type=click.Choice(_KINDS, case_sensitive=False))
@click.argument("name", metavar="NAMESPACE/NAME")
@message_option
@wait_option
@common_options
@pass_session
def release(session: Session, kind: str, name: str, message: str, wait: timedelta | None) -> None:
    """Hand a policy that `apply` has made over to the cluster object of its name.

    The object has to be there already, without faults: its version takes the place of the command's in one revision.
    From then on the policy is changed by kubectl. KIND is AllowPolicy, DenyPolicy or NamespaceDefaults.
    """
    namespace, slash, short = name.partition("/")
    if not (namespace and slash and short):
        raise click.BadParameter(f"{name!r}: write NAMESPACE/NAME", param_hint="NAMESPACE/NAME")
    body = {"kind": kind, "namespace": namespace, "name": short, "message": message}
    _change(session, body, wait, path="/v1/policies/release")


def _only_one(name: str, kind: str | None, stored: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The key of the one stored policy that is meant."""
    found = [each for each in stored if _is_named(each, name) and kind in (None, each["kind"])]
    if not found:
        raise click.ClickException(f"there is no policy {name}: see `doorward policy get`.")
    if len(found) > 1:
        these = ", ".join(f"{each['kind']} {each['namespace']}/{each['name']}" for each in found)
        raise click.ClickException(f"{name} names several: {these}. Write namespace/name, or add --kind.")
    return {key: found[0][key] for key in ("kind", "namespace", "name")}


def _is_named(stored: dict[str, Any], name: str) -> bool:
    return name in {stored["name"], f"{stored['namespace']}/{stored['name']}"}


def _change(session: Session, body: dict[str, Any], wait: timedelta | None, path: str = "/v1/policies") -> None:
    """Send one change, show what it did, and wait for its enforcement where asked."""
    with session.client() as client:
        answer = client.post(path, body)
        enforced = None if wait is None or answer["dry_run"] else wait_until_enforced(client, answer, wait)
    answer["enforced"] = enforced
    session.show(answer, lambda: _show_change(answer))
    if enforced is not None and enforced["on"] < enforced["of"]:
        raise No


def _show_change(answer: dict[str, Any]) -> None:
    for each in answer["changes"]:
        action = styled(f"{each['action']:<9}", _COLOURS[each["action"]])
        echo_styled(action, clean(f"{each['kind']} {each['namespace']}/{each['name']}"))
        if answer["dry_run"]:
            _show_difference(each)
    if answer["left"]:
        names = ", ".join(f"{each['kind']} {each['namespace']}/{each['name']}" for each in answer["left"][:_LEFT_NAMED])
        more = f" and {len(answer['left']) - _LEFT_NAMED} more" if len(answer["left"]) > _LEFT_NAMED else ""
        say(f"Left alone, since they belong to the cluster: {names}{more}")
    for warning in answer["warnings"]:
        echo_styled(styled("warning", "yellow", bold=True, err=True), clean(warning), err=True)
    if answer["dry_run"]:
        say("Nothing was stored (--dry-run).")
    elif all(each["action"] == "unchanged" for each in answer["changes"]):
        say(f"Nothing changed; revision {answer['number']} stays.")
    else:
        say(f"Revision {answer['number']} by {answer['author']}")
    if answer["enforced"] is not None:
        _show_enforced(answer["enforced"])


def _show_enforced(enforced: dict[str, Any]) -> None:
    if not enforced["of"]:
        say("No connected sidecar is concerned.")
        return
    text = f"enforced on {enforced['on']} of {enforced['of']} sidecars after {enforced['seconds']:.2f} s"
    done = enforced["on"] == enforced["of"]
    echo_styled(styled("ok" if done else "not yet", "green" if done else "yellow", bold=True), text)
    for each in enforced["waiting"]:
        why = each["refused"]["message"] if each["refused"] else f"acknowledged {each['acknowledged']}"
        say(f"  waiting for {each['identity']} at {each['address']}: {why}")


def _show_difference(change: dict[str, Any]) -> None:
    """A unified difference of the two documents as YAML."""
    import difflib

    from control_plane.yaml_core import to_yaml

    before, after = (to_yaml(each).splitlines() if each else [] for each in (change["before"], change["after"]))
    for line in list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[0], "reset")
        echo_styled(styled(f"    {line}", colour))


@policy.command(
    epilog="""
    \b
    Examples:
      doorward policy get
      doorward policy get shop/checkout-calls-payments --documents
      doorward policy get --documents > backup.yaml
    """
)
@click.argument("name", required=False)
@click.option("--documents", is_flag=True, help="Print the documents alone, as a file that `apply` takes.")
@common_options
@pass_session
def get(session: Session, name: str | None, documents: bool) -> None:
    """Show the policies in force, whose they are, and on how many sidecars each is enforced."""
    with session.client() as client:
        stored = client.get("/v1/policies")["policies"]
    found = [each for each in stored if name is None or _is_named(each, name)]
    if name is not None and not found:
        raise click.ClickException(f"there is no policy {name}: see `doorward policy get`.")
    if documents:
        from control_plane.yaml_core import to_yaml

        click.echo("---\n".join(to_yaml(each["document"]) for each in found), nl=False)
        return
    session.show({"policies": found}, lambda: _policies(found))


def _policies(found: Sequence[dict[str, Any]]) -> None:
    rows = (
        (
            each["namespace"],
            each["name"],
            each["kind"],
            each["document"]["spec"].get("mode", "enforce") if each["kind"] != "NamespaceDefaults" else None,
            f"{each['enforced']['on']}/{each['enforced']['of']}",
            each["number"],
            each["owner"],
            each["author"],
            when(each["time"]),
        )
        for each in found
    )
    headers = ("NAMESPACE", "NAME", "KIND", "MODE", "ENFORCED", "REVISION", "OWNER", "BY", "CHANGED")
    table(headers, rows, empty="no policies: every call is denied")


@policy.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--diff", is_flag=True, help="Also show what each revision changed.")
@common_options
@pass_session
def history(session: Session, limit: int, diff: bool) -> None:
    """List the revisions of the policies, newest first."""
    with session.client() as client:
        answer = client.get("/v1/revisions", limit=limit)
    session.show(answer, lambda: _revisions(answer["revisions"], diff=diff))


def _revisions(revisions: Sequence[dict[str, Any]], *, diff: bool) -> None:
    if not diff:
        rows = (
            (each["number"], at(each["time"]), each["author"], _counts(each["changes"]), each["message"] or None)
            for each in revisions
        )
        table(("REVISION", "TIME", "BY", "CHANGES", "MESSAGE"), rows, empty="no policy was ever applied")
        return
    for each in revisions:
        head = styled(f"revision {each['number']}", "yellow", bold=True)
        echo_styled(head, clean(f"{at(each['time'])} by {each['author']}  {each['message']}"))
        for change in each["changes"]:
            if change["action"] != "unchanged":
                say(f"  {change['action']} {change['kind']} {change['namespace']}/{change['name']}")
                _show_difference(change)


def _counts(changes: Sequence[dict[str, Any]]) -> str:
    signs = {"+": ("added",), "~": ("replaced", "released"), "-": ("removed",)}
    counts = ((sign, sum(each["action"] in actions for each in changes)) for sign, actions in signs.items())
    return " ".join(f"{sign}{count}" for sign, count in counts if count) or "none"
