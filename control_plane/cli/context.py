"""`doorward context`: control planes elsewhere, each with the operator's certificate by which it is asked."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from certs.bundle import root_fingerprint
from control_plane import private_files
from control_plane.admin.context import Context
from control_plane.admin.errors import ContextRefused
from control_plane.cli.contexts import SUFFIX, Contexts
from control_plane.cli.output import say, table, when
from control_plane.cli.parameters import Address
from control_plane.cli.session import Session, common_options, pass_session
from control_plane.private_files import FileRefused
from control_plane.settings import HostPort


@click.group(
    epilog="""
    \b
    Examples:
      doorward context add ann.context.toml
      doorward context add ann.context.toml --server 127.0.0.1:9443 --name production
      doorward context use production
      doorward --context production sidecars
    """
)
@common_options
def context() -> None:
    """Keep what it takes to ask control planes elsewhere."""


def added(context: Context, name: str | None = None, *, use: bool = False) -> dict[str, Any]:
    """Keep a context; the first one becomes the current one. Raises ContextRefused."""
    contexts, name = Contexts.of_user(), name or context.usual_name
    _check_replaced(name, contexts.find(name), context)
    contexts.write(name, context.to_toml())
    if use or contexts.current() is None:
        contexts.use(name)
    return {"name": name, "current": contexts.current()}


def _check_replaced(name: str, found: bytes | None, context: Context) -> None:
    """A newer certificate takes the older one's place; another operator's, or another mesh's, does not."""
    if found is None:
        return
    try:
        old = Context.parse(found)
    except ContextRefused:
        return  # of no use to anybody
    if old.svid.id != context.svid.id or not set(old.bundle.all_roots) & set(context.bundle.all_roots):
        raise ContextRefused(
            f"the context {name!r} is there already, for {old.svid.id} at {old.server} with other roots or another "
            f"name: choose another by --name, or `doorward context delete {name}` first"
        )


@context.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: OPERATOR@TRUST-DOMAIN]")
@click.option("--server", type=Address(), help="Where the control plane is reached from here, as through a tunnel.")
@click.option("--use", is_flag=True, help="Make it the current context; the first one is.")
@common_options
@pass_session
def add(session: Session, file: Path, name: str | None, server: HostPort | None, *, use: bool) -> None:
    """Keep the context in FILE (- for standard input), as `doorward operator create` made it."""
    found = Context.parse(_read(file))
    found.check_dates(datetime.now(UTC))
    answer = added(evolve(found, server=server or found.server), name, use=use)
    session.show(answer, lambda: say_added(answer))


def say_added(answer: dict[str, Any]) -> None:
    """For people: what `added` did."""
    say(f"Context {answer['name']} is kept.")
    if answer["current"] == answer["name"]:
        say("It is the current one: commands without --admin or --context use it.")
    else:
        say(f"Current is {answer['current']}: use this one by --context, or `doorward context use {answer['name']}`.")


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        content = private_files.read(file)
    except FileRefused as error:
        raise ContextRefused(str(error)) from None
    if content is None:
        raise ContextRefused(f"there is no file {file}")
    return content


@context.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List the contexts."""
    contexts = Contexts.of_user()
    current, found = contexts.current(), [_listed(contexts, name) for name in contexts.names()]
    rows = (
        (
            "*" if each["name"] == current else "",
            each["name"],
            each["server"],
            each["identity"],
            when(each["expires"]) or each["error"],
        )
        for each in found
    )
    answer = {"current": current, "contexts": found}
    headers = ("", "NAME", "SERVER", "OPERATOR", "CERTIFICATE EXPIRES")
    session.show(answer, lambda: table(headers, rows, empty="no contexts: `doorward context add FILE`"))


def _listed(contexts: Contexts, name: str) -> dict[str, Any]:
    try:
        found = Context.parse(contexts.read(name))
    except ContextRefused as error:
        return {"name": name, "server": None, "identity": None, "expires": None, "error": str(error)}
    shown = _shown(name, found)
    return {key: shown[key] for key in ("name", "server", "identity", "expires")} | {"error": None}


def _shown(name: str, context: Context) -> dict[str, Any]:
    return {
        "name": name,
        "server": str(context.server),
        "identity": str(context.svid.id),
        "trust_domain": str(context.trust_domain),
        "serial": str(context.svid.serial),
        "expires": context.svid.not_after.isoformat(timespec="milliseconds"),
        "roots": [root_fingerprint(root) for root in context.bundle.all_roots],
    }


@context.command()
@click.argument("name", required=False)
@common_options
@pass_session
def show(session: Session, name: str | None) -> None:
    """Show a context, by default the current one, without its key."""
    contexts = Contexts.of_user()
    name = name or session.context or contexts.current()
    if name is None:
        raise ContextRefused("no context is the current one: `doorward context list`, `doorward context use NAME`")
    answer = _shown(name, Context.parse(contexts.read(name))) | {"file": str(contexts.path(name + SUFFIX))}

    def human() -> None:
        for key, value in answer.items():
            shown = f"{value} ({when(value)})" if key == "expires" else value
            say(f"{key.replace('_', ' '):12} {', '.join(shown) if isinstance(shown, list) else shown}")

    session.show(answer, human)


@context.command()
@click.argument("name")
@common_options
@pass_session
def use(session: Session, name: str) -> None:
    """Make NAME the current context."""
    Contexts.of_user().use(name)
    session.show({"name": name, "current": name}, lambda: say(f"{name} is the current context."))


@context.command()
@click.argument("name")
@common_options
@pass_session
def delete(session: Session, name: str) -> None:
    """Forget the context NAME and its key. Its certificate stays good until it ends: see `ban`."""
    contexts = Contexts.of_user()
    contexts.delete(name)
    answer = {"name": name, "current": contexts.current()}
    session.show(answer, lambda: say(f"Context {name} is gone; the control plane takes its certificate until it ends."))
