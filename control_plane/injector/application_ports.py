"""What the application speaks on which port, where its pod does not say so by annotation: by its ports' names."""

from collections.abc import Iterable, Mapping
from typing import Any

from control_plane.kubernetes.port_names import protocol_of_name


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
