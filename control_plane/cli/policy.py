"""`doorward policy`: who may call whom. Changes are all or nothing, numbered, and counted where they are enforced."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from control_plane.cli.changing import change
from control_plane.cli.deciding import PATHS, check, lint, read_files
from control_plane.cli.history import history
from control_plane.cli.naming import KINDS, advice, key_of, meant, to_delete, to_get, to_release
from control_plane.cli.output import table, when
from control_plane.cli.parameters import Duration
from control_plane.cli.session import Session, common_options, pass_session

_LISTED = ": see `doorward policy get`."

wait_option = click.option(
    "--wait",
    type=Duration(),
    metavar="DURATION",
    help="Wait until every connected sidecar concerned enforces it; exit 1 if that takes longer.",
)
message_option = click.option("-m", "--message", default="", help="Why; it is kept with the revision.")


# Words that others have for it, and what does it here.
_ELSEWHERE = {
    **dict.fromkeys(
        ("show", "list", "describe"), "`doorward policy get` lists them, `doorward policy get NAME -o yaml` shows one"
    ),
    **dict.fromkeys(
        ("rollback", "undo"),
        "`doorward policy history --diff` shows what stood there before, as far as it is kept: apply that again, as a "
        "new revision",
    ),
}

# kubectl's option, taken in order to say what to write.
_namespace_option = click.option("-n", "--namespace", hidden=True)


class _Policy(click.Group):
    """Says of a command that does not exist which one does what it says."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in _ELSEWHERE:
            ctx.fail(f"there is no command {args[0]}: {_ELSEWHERE[args[0]]}.")
        return super().resolve_command(ctx, args)


def _complete_kind(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    return [kind for kind in KINDS if kind.lower().startswith(begun.lower())]


@click.group(cls=_Policy)
@common_options
def policy() -> None:
    """Apply, show, check and delete policies."""


policy.add_command(check)
policy.add_command(history)
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
    change(session, {"put": documents, "prune": prune, "dry_run": dry_run, "message": message}, wait)


@policy.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--kind", type=click.Choice(KINDS, case_sensitive=False), help="Only this kind.")
@_namespace_option
@message_option
@wait_option
@common_options
@pass_session
def delete(
    session: Session,
    names: Sequence[str],
    kind: str | None,
    namespace: str | None,
    message: str,
    wait: timedelta | None,
) -> None:
    """Delete policies. NAME is namespace/name, or a name alone where it is the only one of that name."""
    understood = meant(names, namespace, kind)
    hint = advice(understood, to_delete(understood))
    if namespace is not None:
        raise click.UsageError(f"delete takes namespace/name, and no --namespace. {hint}")
    with session.client() as client:
        stored = client.get("/v1/policies")["policies"]
    keys = [_only_one(name, kind, stored, hint if meant(names).kinds else "") for name in names]
    change(session, {"delete": keys, "message": message}, wait)


@policy.command(
    epilog="""
    \b
    Examples:
      doorward policy release AllowPolicy shop/checkout-calls-payments
      doorward policy release --all -m "moved out of the cluster"
    """
)
@click.argument("words", nargs=-1, metavar="KIND NAMESPACE/NAME", shell_complete=_complete_kind)
@click.option("--all", "every", is_flag=True, help="Without a cluster: take over every policy that it has left.")
@_namespace_option
@message_option
@wait_option
@common_options
@pass_session
def release(
    session: Session,
    words: Sequence[str],
    every: bool,
    namespace: str | None,
    message: str,
    wait: timedelta | None,
) -> None:
    """Hand a policy that `apply` has made over to the cluster object of its name.

    The object has to be there already, without faults: its version takes the place of the command's in one revision.
    From then on the policy is changed by kubectl. KIND is AllowPolicy, DenyPolicy or NamespaceDefaults.

    A control plane that watches no cluster (any more) does the reverse: what a cluster object has made becomes the
    command's as it is, and can then be changed and deleted here.
    """
    key: dict[str, Any] | None = {"all": True} if every and not words else key_of(words)
    if key is None or namespace is not None or (every and words):
        understood = meant(words, namespace)
        raise click.UsageError(
            f"release takes a kind and a namespace/name, or --all. {advice(understood, to_release(understood))}"
        )
    body = {**key, "message": message}
    change(session, body, wait, path="/v1/policies/release")


def _only_one(name: str, kind: str | None, stored: Sequence[dict[str, Any]], hint: str) -> dict[str, str]:
    """The key of the one stored policy that is meant; `hint` is for where there is no such one."""
    found = [each for each in stored if _is_named(each, name) and kind in (None, each["kind"])]
    if not found:
        raise click.ClickException(f"there is no policy {name}{f'. {hint}' if hint else _LISTED}")
    if len(found) > 1:
        these = ", ".join(f"{each['kind']} {each['namespace']}/{each['name']}" for each in found)
        raise click.ClickException(f"{name} names several: {these}. {hint or 'Write namespace/name, or add --kind.'}")
    return {key: found[0][key] for key in ("kind", "namespace", "name")}


def _is_named(stored: dict[str, Any], name: str) -> bool:
    return name in {stored["name"], f"{stored['namespace']}/{stored['name']}"}


@policy.command(
    epilog="""
    \b
    Examples:
      doorward policy get
      doorward policy get shop/checkout-calls-payments --documents
      doorward policy get --documents > backup.yaml
    """
)
@click.argument("names", nargs=-1, metavar="[NAME]")
@_namespace_option
@click.option("--documents", is_flag=True, help="Print the documents alone, as a file that `apply` takes.")
@common_options
@pass_session
def get(session: Session, names: Sequence[str], namespace: str | None, documents: bool) -> None:
    """Show the policies in force, whose they are, and on how many sidecars each is enforced."""
    understood = meant(names, namespace)
    hint = advice(understood, to_get(understood))
    if len(names) > 1 or namespace is not None:
        raise click.UsageError(f"get takes one namespace/name, or none for all of them. {hint}")
    name = names[0] if names else None
    with session.client() as client:
        stored = client.get("/v1/policies")["policies"]
    found = [each for each in stored if name is None or _is_named(each, name)]
    if name is not None and not found:
        raise click.ClickException(f"there is no policy {name}{f'. {hint}' if understood.kinds else _LISTED}")
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
