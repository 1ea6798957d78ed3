"""The listeners that really stand: settings may say port 0, and everyone else needs the port that it became.

addresses()    for the run file, /config and whoever started us
announced()    for the control plane
"""

import json
import os
from pathlib import Path
from typing import Any

from attrs import define, field

from mesh.wire import Listener
from sidecar.settings import Address, DeclaredPort, Inbound, Outbound

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


@define
class Doors:
    """Fills up while the listeners are opened. Each is its setting and the port that was bound.

    `transparent` are the ports that take redirected connections, inbound and outbound; `ports` are then announced.
    """

    advertise: tuple[str, ...]
    inbound: list[tuple[Inbound, int]] = field(factory=list)
    outbound: list[tuple[Outbound, int]] = field(factory=list)
    observe: Address | None = None
    transparent: tuple[int, int] | None = None
    ports: tuple[DeclaredPort, ...] = ()

    def addresses(self) -> dict[str, Any]:
        """What is really bound, in plain data."""
        return {
            "inbound": [
                {
                    "bind": bound(inbound.bind, port),
                    "port": inbound.port,
                    "application": str(inbound.application),
                    "protocol": inbound.protocol,
                }
                for inbound, port in self.inbound
            ],
            "outbound": [
                {"bind": bound(outbound.bind, port), "destination": outbound.target} for outbound, port in self.outbound
            ],
            "observe": str(self.observe or ""),
            **self._captures(),
        }

    def announced(self) -> tuple[Listener, ...]:
        """The inbound listeners as the push protocol says them.

        The address to dial is each one advertised, else the one bound; behind a wildcard it is left to the control
        plane, which sees where the link comes from. A transparent sidecar is dialled at the application's own ports.
        """
        explicit = [
            Listener(port, inbound.port, inbound.protocol, address)
            for inbound, port in self.inbound
            for address in self.advertise or (_specific(inbound.bind),)
        ]
        transparent = [
            Listener(declared.port, declared.port, declared.protocol, address)
            for declared in self.ports
            for address in self.advertise or (None,)
        ]
        return (*explicit, *transparent)

    def _captures(self) -> dict[str, Any]:
        if self.transparent is None:
            return {}
        inbound, outbound = self.transparent
        return {"transparent": {"inbound": inbound, "outbound": outbound, "ports": [str(each) for each in self.ports]}}


def bound(bind: Address | Path, port: int) -> str:
    """A listener's real address: its host with the real port, or `unix:` and its path."""
    return f"unix:{bind}" if isinstance(bind, Path) else str(Address(bind.host, port))


def write_run_file(path: Path, addresses: dict[str, Any]) -> None:
    """Write the addresses as JSON, whole or not at all: a reader never sees half a file. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(addresses) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _specific(bind: Address) -> str | None:
    return None if bind.host in _WILDCARDS else bind.host
