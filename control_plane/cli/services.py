"""`doorward services`: what sidecars are told of the cluster's services, and why a call to one goes nowhere."""

from collections.abc import Iterator
from typing import Any

import click

from control_plane.cli.output import say, table
from control_plane.cli.session import Session, common_options, pass_session
from control_plane.settings import HostPort

_HEADERS = ("SERVICE", "ADDRESS", "PROTOCOL", "BACKEND", "STANDING", "IDENTITY", "POD")


@click.group()
@common_options
def services() -> None:
    """See where calls to the cluster's services lead."""


@services.command(
    "list",
    epilog="""
    \b
    Examples:
      doorward services list -n shop
      doorward services list -o json | jq '.services[] | select(all(.backends[]; .standing != "called"))'
    """,
)
@click.option("-n", "--namespace", help="Of this namespace only.")
@click.option(
    "--all", "every", is_flag=True, help="Show also services outside the mesh: nobody behind them has a sidecar."
)
@common_options
@pass_session
def list_services(session: Session, namespace: str | None, *, every: bool) -> None:
    """List the services in the mesh, and each place behind them: who must answer there, and whether it is called."""
    with session.client() as client:
        answer = client.get("/v1/services")
    shown = [
        each
        for each in answer["services"]
        if (every or each["in_mesh"]) and namespace in (None, each["service"].partition("/")[0])
    ]

    def human() -> None:
        table(_HEADERS, (row for each in shown for row in _rows(each)), empty="no service is in the mesh")
        if not answer["complete"]:
            say("the cluster's services are not all known yet: sidecars keep what they were told before", err=True)

    session.show({**answer, "services": shown}, human)


def _rows(service: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """One for each place behind it; one without a place where there is none."""
    addresses = ", ".join(str(HostPort(each, service["port"])) for each in service["addresses"])
    protocol = service["protocol"] if service["in_mesh"] else "outside"
    head = service["service"], addresses or f"headless, {service['port']}", protocol
    for place in service["backends"] or [None]:
        if place is None:
            yield (*head, None, "no_backends", None, None)
        else:
            yield (
                *head,
                str(HostPort(place["address"], place["port"])),
                place["standing"],
                place["identity"],
                place["pod"],
            )
