"""`doorward operator`: who may use the admin API from elsewhere.

The key is made here and never leaves this machine but in the context file: the control plane sees a signing request.
"""

import os
from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric import ec

from certs.bundle import TrustBundle
from certs.certificate import load_pem, to_der
from certs.csr import build_csr
from certs.errors import SpiffeIdMalformed
from certs.keys import new_key
from certs.spiffe import TrustDomain
from certs.svid import Svid
from control_plane import private_files
from control_plane.admin.client import Client
from control_plane.admin.context import Context
from control_plane.cli.context import added, say_added
from control_plane.cli.output import say, table, when
from control_plane.cli.parameters import Address, Duration
from control_plane.cli.session import Session, common_options, pass_session
from control_plane.settings import HostPort

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # what is listened on, and where that is reached


@click.group()
@common_options
def operator() -> None:
    """Let people and programs elsewhere use the admin API."""


@operator.command(
    epilog="""
    \b
    Examples:
      doorward operator create ann --lifetime 8h
      doorward operator create ann --context-file - | ssh laptop doorward context add - --server 10.0.0.7:9443
      doorward operator create ann --add
    """
)
@click.argument("name")
@click.option("--lifetime", type=Duration(), help="Of the certificate.  [default: 8h, where that is allowed]")
@click.option("--server", type=Address(), help="Where the operator reaches it.  [default: where it listens]")
@click.option("--context-file", type=click.Path(path_type=Path), help="Or -.  [default: NAME.context.toml]")
@click.option("--add", is_flag=True, help="Keep it among your own contexts instead, as `context add` does.")
@common_options
@pass_session
def create(
    session: Session,
    name: str,
    lifetime: timedelta | None,
    server: HostPort | None,
    context_file: Path | None,
    *,
    add: bool,
) -> None:
    """Make a certificate for the operator NAME, in a context file that `doorward context add` takes."""
    if add and context_file:
        raise click.UsageError("--add and --context-file are two places: give one of them")
    _check_name(name)
    file = None if add else _free(context_file or Path(f"{name}.context.toml"))
    context, answer = _issued(session, name, server, lifetime)
    kept = added(context) if add else None
    answer |= {"file": str(file) if file else None, "context": kept["name"] if kept else None}
    if file is not None and str(file) == "-":
        click.echo(context.to_toml(), nl=False)
        _created(answer)
        return
    if file is not None:
        _write(file, context)
    session.show(answer, lambda: say_added(kept) if kept else _created(answer))


def _issued(
    session: Session, name: str, server: HostPort | None, lifetime: timedelta | None
) -> tuple[Context, dict[str, Any]]:
    """A new operator's context, and what to show of it. Raises AdminError, click.ClickException."""
    key, chosen = new_key(), session.chosen_context()
    with session.client() as client:
        where = server or (chosen.server if chosen else _listens(client))
        issued = client.post("/v1/operators", _request(name, key, lifetime))
    svid = Svid.build(key, [to_der(each) for each in load_pem(issued["chain"].encode())])
    context = Context(where, TrustBundle.from_pem(issued["bundle"].encode()), svid)
    shown = {each: issued[each] for each in ("name", "identity", "serial", "expires", "author")}
    return context, {**shown, "server": str(where)}


def _created(answer: dict[str, Any]) -> None:
    say(f"{answer['identity']} may ask {answer['server']} until {answer['expires']}.", err=True)
    if answer["file"] != "-":
        say(
            f"{answer['file']} holds the key: hand it over in private, for `doorward context add`.",
            err=True,
        )


def _check_name(name: str) -> None:
    try:
        TrustDomain("any").operator(name)
    except SpiffeIdMalformed as error:
        raise click.UsageError(f"{name[:80]!r} cannot be an operator's name: {error}") from error


def _free(file: Path) -> Path:
    """`file`, where it can be made: what is there may be somebody's key."""
    if str(file) != "-" and (file.exists() or file.is_symlink()):
        raise click.ClickException(f"{file} is there already: remove it, or choose another by --context-file")
    if str(file) != "-" and not os.access(file.parent, os.W_OK):
        raise click.ClickException(f"{file} cannot be written: choose another place by --context-file, or - for output")
    return file


def _listens(client: Client) -> HostPort:
    listens = client.get("/v1/operators")["listen"]
    if listens is None:
        raise click.ClickException(
            "this control plane does not listen for operators: run it with --admin-listen IP:PORT, or say by --server "
            "where it will be reached"
        )
    found = HostPort.parse(listens)
    if found.host in _EVERYWHERE:
        found = HostPort(_EVERYWHERE[found.host], found.port)
        say(f"It listens everywhere; the context says {found}: name another by --server.", err=True)
    return found


def _request(name: str, key: ec.EllipticCurvePrivateKey, lifetime: timedelta | None) -> dict[str, Any]:
    seconds = None if lifetime is None else max(1, round(lifetime.total_seconds()))
    return {"name": name, "csr": b64encode(build_csr(key)).decode("ascii"), "lifetime": seconds}


def _write(file: Path, context: Context) -> None:
    try:
        private_files.write(file.parent, file.name, context.to_toml())
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror or error}") from error


@operator.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List the operators' certificates that have not ended."""
    with session.client() as client:
        answer = client.get("/v1/operators")
    rows = (
        (each["name"], each["serial"], when(each["time"]), when(each["expires"]), "banned" if each["banned"] else None)
        for each in answer["operators"]
    )
    headers = ("NAME", "SERIAL", "CREATED", "EXPIRES", "BANNED")
    session.show(answer, lambda: table(headers, rows, empty="no operator has a certificate"))
