"""What the kernel knows of loopback connections, and what it lets this process open (Linux)."""

import resource
from collections.abc import Iterable
from pathlib import Path

LISTENING = "0A"  # as /proc/net/tcp writes TCP_LISTEN


def queued(ports: Iterable[int]) -> dict[int, int]:
    """Bytes that the kernel holds, sent and not yet read, on IPv4 connections from or to each of these local ports.

    A byte counts once, wherever it waits: at the sender until it is acknowledged, at the receiver from then on.
    """
    held = dict.fromkeys(ports, 0)
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state == LISTENING:  # its queue counts connections
            continue
        unsent, unread = (int(number, 16) for number in queues.split(":"))
        for port in {int(end.rpartition(":")[2], 16) for end in (local, remote)} & held.keys():
            held[port] += unsent + unread
    return held


def more_descriptors(count: int) -> None:
    """Let this process open that many files, as far as the machine's hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
