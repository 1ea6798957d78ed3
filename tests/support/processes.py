"""What can be learnt of a running process: what it logged and counted, and what the kernel says of it."""

import json
import os
import re
from pathlib import Path
from typing import Any

from attrs import define

from examples.demo.local_mesh import Process, http_get

KIB = 1024
MIB = 1024 * KIB


def logged(process: Process, event: str) -> list[dict[str, Any]]:
    """The lines of the process log (standard error) that report this event, oldest first."""
    lines = process.log.read_text(errors="replace").splitlines()
    return [line for line in map(_line, lines) if line.get("event") == event]


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:  # half a line: it is being written
        return {}
    return line if isinstance(line, dict) else {}


def resident(process: Process) -> int:
    """Bytes of memory that the process has resident now."""
    return _status(process, "VmRSS")


def descriptors(process: Process) -> int:
    """Descriptors that the process has open now."""
    return len(os.listdir(f"/proc/{process.popen.pid}/fd"))  # noqa: PTH208  # one call, and it may vanish under it


@define
class Memory:
    """The memory of a process from a moment on."""

    process: Process
    before: int = 0

    @classmethod
    def of(cls, process: Process) -> "Memory":
        """From now on: the kernel forgets the highest value that there was."""
        Path(f"/proc/{process.popen.pid}/clear_refs").write_text("5")
        return cls(process, resident(process))

    @property
    def growth(self) -> int:
        """By how many bytes it was larger than at the beginning when it was largest."""
        return _status(self.process, "VmHWM") - self.before


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
