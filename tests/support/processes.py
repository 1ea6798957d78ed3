"""What can be learnt of a running process: what it logged and counted, and what the kernel says of it."""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from examples.demo.local_mesh import Process, http_get, json_lines

KIB = 1024
MIB = 1024 * KIB


def logged(process: Process, event: str) -> list[dict[str, Any]]:
    """The lines of the process log (standard error) that report this event, oldest first."""
    return [line for line in json_lines(process.log) if line.get("event") == event]


def descriptors(process: Process) -> int:
    """Descriptors that the process has open now."""
    return len(os.listdir(f"/proc/{process.popen.pid}/fd"))  # noqa: PTH208  # one call, and it may vanish under it


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """For the block this process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with suppress(OSError):
        highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        while True:
            taken.append(os.dup(0))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@frozen
class Memory:
    """What a process holds in memory, in bytes. `peak` is the most that was ever resident."""

    resident: int
    peak: int

    @classmethod
    def of(cls, process: Process) -> "Memory":
        """As of now."""
        return cls(_status(process, "VmRSS"), _status(process, "VmHWM"))


@frozen
class Growth:
    """How the memory of a process grows from a moment on."""

    process: Process
    before: int

    @classmethod
    def of(cls, process: Process) -> "Growth":
        """From now on: the kernel forgets the highest value that there was."""
        Path(f"/proc/{process.popen.pid}/clear_refs").write_text("5")
        return cls(process, Memory.of(process).resident)

    @property
    def bytes(self) -> int:
        """By how much it was larger than at the beginning when it was largest."""
        return Memory.of(self.process).peak - self.before


async def metric(address: str, name: str, **labels: str) -> float:
    """The sum over /metrics' samples of that name which have these labels; 0 where there is none."""
    _, page = await http_get(address, "/metrics")
    samples = [line for line in page.splitlines() if re.split(r"[{ ]", line, maxsplit=1)[0] == name]
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(line.rpartition(" ")[2]) for line in samples if all(each in line for each in wanted))


def _status(process: Process, field: str) -> int:
    text = Path(f"/proc/{process.popen.pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found, f"no {field} of {process.name}: is it still running?"
    return int(found[1]) * KIB
