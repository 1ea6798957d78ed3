"""`doorward policy check` and `policy lint`: what the policies mean, asked of the function that enforces them.

With `--policies` nothing but files is read, and no server, TLS or web library is imported: a pipeline can ask a
thousand questions. Without it the control plane answers from what it has stored.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from control_plane.cli.output import clean, echo_styled, say, styled
from control_plane.cli.session import No, Session, common_options, pass_session
from control_plane.questions import PLAINTEXT, Question, QuestionMalformed, answer

if TYPE_CHECKING:
    from mesh.policy import Document

PATHS = click.Path(path_type=Path, allow_dash=True)


@click.command(
    epilog="""
    \b
    Examples:
      doorward policy check --from shop/checkout --to shop/payments:8080 --request "POST /charges"
      doorward policy check --policies examples/shop --from shop/frontend --to shop/payments:8080
      doorward policy check --from plaintext --address 10.0.0.7 --to shop/payments:8080

    Exit codes: 0 allowed, 1 denied, 2 error.
    """
)
@click.option(
    "--from",
    "caller",
    required=True,
    metavar="CALLER",
    help=f"Who calls: namespace/workload, a SPIFFE ID, or {PLAINTEXT} for a caller without a certificate.",
)
@click.option("--to", required=True, metavar="NAMESPACE/WORKLOAD:PORT", help="Whom, on the application's own port.")
@click.option("--request", metavar='"METHOD /PATH"', help="An HTTP request; without it, raw TCP is asked about.")
@click.option(
    "--address", metavar="IP", help="Where the caller is, for policies that admit plaintext callers by address."
)
@click.option(
    "--policies", multiple=True, metavar="FILE|DIR", type=PATHS, help="Ask about these files, offline; - is stdin."
)
@click.option("--trust-domain", metavar="NAME", help="With --policies: the own trust domain.  [default: cluster.local]")
@common_options
@pass_session
def check(
    session: Session,
    caller: str,
    to: str,
    request: str | None,
    address: str | None,
    policies: Sequence[Path],
    trust_domain: str | None,
) -> None:
    """Would this call be allowed? Says why, by which policy and rule, or what came nearest."""
    if policies:
        found = _offline(caller, to, request, address, policies, trust_domain or "cluster.local")
    elif trust_domain is not None:
        raise click.UsageError("--trust-domain goes with --policies: a control plane knows its own.")
    else:
        question = {"from": caller, "to": to, "request": request, "address": address}
        with session.client() as client:
            found = client.post("/v1/decisions", question)
    session.show(found, lambda: _explain(found))
    if not found["allowed"]:
        raise No


def _offline(
    caller: str, to: str, request: str | None, address: str | None, paths: Sequence[Path], trust_domain: str
) -> dict[str, Any]:
    from certs.errors import SpiffeIdMalformed
    from certs.spiffe import TrustDomain
    from mesh.policy import read_policies

    try:
        domain = TrustDomain(trust_domain)
        question = Question.parse(caller, to, request, address, domain)
    except (QuestionMalformed, SpiffeIdMalformed) as error:
        raise click.UsageError(str(error)) from error
    return {**answer(question, read_policies(read_files(paths)), domain), "revision": None}


def read_files(paths: Sequence[Path]) -> "list[Document]":
    """The documents in `paths`, where `-` is standard input. Raises PolicyFaults, also for what cannot be read."""
    import sys

    from control_plane import policies

    return policies.read_paths(paths, sys.stdin.buffer)


def _explain(found: dict[str, Any]) -> None:
    verdict = styled("ALLOWED", "green", bold=True) if found["allowed"] else styled("DENIED", "red", bold=True)
    call = f"{found['from']} -> {found['to']}  {found['request'] or 'TCP'}"
    echo_styled(verdict, clean(call))
    say(f"  reason   {found['reason']}: {found['meaning']}")
    if found["policy"]:
        rule = "" if found["rule"] is None else f", rule spec.http[{found['rule']}]"
        say(f"  policy   {found['policy']}{rule}")
    if found["nearest"]:
        near = found["nearest"]
        say(f"  nearest  {near['policy']}: {near['clause']} wants {near['wanted']}, the call has {near['got']}")
    if found["tried"]:
        say(f"  tried    {', '.join(found['tried'])}")
    for finding in found["audit"]:
        say(f"  audit    {finding['policy'] or 'the audit default'} would {finding['would']}")
    if found["revision"] is not None:
        say(f"  revision {found['revision']}")


@click.command(
    epilog="""
    \b
    Exit codes: 0 the policies can be applied (warnings do not count), 2 they cannot, or an error.
    """
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR...", type=PATHS)
@common_options
@pass_session
def lint(session: Session, paths: Sequence[Path]) -> int:
    """List every fault in policy files, and warn of rules that do not do what they seem to. Needs no server."""
    from mesh.policy import PolicyFaults, read_policies
    from mesh.policy import lint as look_over

    faults: list[str] = []
    warnings: list[str] = []
    documents: list[Document] = []
    try:
        documents = read_files(paths)
        warnings = [str(fault) for fault in look_over(read_policies(documents))]
    except PolicyFaults as error:
        faults = [str(fault) for fault in error.faults]
    found = {"documents": len(documents), "faults": faults, "warnings": warnings}
    session.show(found, lambda: _findings(found))
    return 2 if faults else 0


def _findings(found: dict[str, Any]) -> None:
    for fault in found["faults"]:
        echo_styled(styled("fault", "red", bold=True), clean(fault))
    for warning in found["warnings"]:
        echo_styled(styled("warning", "yellow", bold=True), clean(warning))
    if found["faults"]:
        say(f"{len(found['faults'])} fault(s): nothing of this can be applied")
    else:
        say(f"{found['documents']} document(s), {len(found['warnings'])} warning(s)")
