"""What the application speaks on which port, where its pod does not say so by annotation: by its ports' names.

`http` and `http-…` speak HTTP. Names of protocols in which the server may speak first, or whose first bytes tell
nothing, are raw TCP: SERVER_FIRST. Any other port is `auto`: the sidecar looks at its first bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

SERVER_FIRST: Final = (
    "tcp",
    "amqp",
    "ftp",
    "imap",
    "ldap",
    "mariadb",
    "mongo",
    "mongodb",
    "mqtt",
    "mssql",
    "mysql",
    "nats",
    "pgsql",
    "pop3",
    "postgres",
    "postgresql",
    "redis",
    "smtp",
    "ssh",
    "vnc",
)
"""Names of ports, alone or followed by `-…`, that are raw TCP."""


def derived(containers: Iterable[Mapping[str, Any]], leave_out: Iterable[int]) -> tuple[str, ...]:
    """PORT/PROTOCOL of every TCP port that these containers declare, but for those; in their order.

    Where a port is declared twice, the name that says something counts.
    """
    found: dict[int, str] = {}
    left_out = set(leave_out)
    for container in containers:
        for each in container.get("ports") or ():
            port = each.get("containerPort")
            if port and port not in left_out and (each.get("protocol") or "TCP") == "TCP":
                protocol = protocol_of_name(each.get("name") or "")
                if found.get(port, "auto") == "auto":
                    found[port] = protocol
    return tuple(f"{port}/{protocol}" for port, protocol in found.items())


def protocol_of_name(name: str) -> str:
    """What a port with that name speaks; "auto" where it says nothing."""
    first = name.partition("-")[0]
    if first == "http":
        return "http"
    return "tcp" if first in SERVER_FIRST else "auto"
