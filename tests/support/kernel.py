"""What the kernel knows of a live process and of loopback connections (Linux, /proc)."""

import resource
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

KIB = 1024
LISTENING = "0A"  # as /proc/net/tcp writes TCP_LISTEN


@frozen
class Memory:
    """What one process holds in memory, in bytes. `peak` is the most that was ever resident."""

    resident: int
    peak: int

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """As of now."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        said = dict(line.split(":", 1) for line in lines)
        resident, peak = (int(said[name].split()[0]) * KIB for name in ("VmRSS", "VmHWM"))
        return cls(resident, peak)


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


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
