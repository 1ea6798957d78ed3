"""What was given on the command line to a Redirection. Every flag takes texts; all that is wrong is said at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from sidecar import parsing
from sidecar.loading import Fault, SettingsFault
from sidecar.redirection.rules import HIGHEST_PORT, HIGHEST_UID, Ports, Redirection, conflicts

MAX_SHOWN: Final = 120  # characters of a wrong value in a message

_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_SEVERAL: Final = re.compile(r"[,\s]+")


@frozen
class Flag:
    """One flag. `accepted` completes the sentence "write …"; `many` takes several values, by commas or repeated."""

    name: str  # the attribute of Redirection
    parse: Callable[[str], object]
    accepted: str
    meaning: str
    metavar: str
    many: bool = False

    @property
    def flag(self) -> str:
        """As it stands on the command line."""
        return "--" + self.name.replace("_", "-")


def port(text: str) -> int:
    """A TCP port."""
    return _number(text, 1, HIGHEST_PORT, "is no port")


def ports(text: str) -> Ports:
    """A TCP port, or the first and the last one of a range."""
    first, dash, last = text.partition("-")
    return Ports(port(first), port(last) if dash else port(first))


def uid(text: str) -> int:
    """A user's number."""
    return _number(text, 0, HIGHEST_UID, "is no UID")


_PORTS: Final = "ports from 1 to 65535 or ranges of them, such as 8080,9000-9010"
_UIDS: Final = f"numbers from 0 to {HIGHEST_UID}, such as 1000"

FLAGS: Final = (
    Flag("inbound_port", port, "a port from 1 to 65535", "The sidecar's port for connections from outside.", "PORT"),
    Flag("outbound_port", port, "a port from 1 to 65535", "The sidecar's port for connections to elsewhere.", "PORT"),
    Flag(
        "sidecar_uid",
        uid,
        f"a number from 1 to {HIGHEST_UID}",
        "The user that the sidecar runs as, and nothing else in the pod: what it sends is not captured.",
        "UID",
    ),
    Flag("exclude_inbound_ports", ports, _PORTS, "Own ports whose connections go straight in.", "PORTS", many=True),
    Flag("exclude_outbound_ports", ports, _PORTS, "Ports to which connections go straight out.", "PORTS", many=True),
    Flag(
        "exclude_outbound_addresses",
        parsing.network,
        "IP networks, such as 169.254.169.254/32,fd00::/8",
        "Networks to which connections go straight out.",
        "CIDRS",
        many=True,
    ),
    Flag("exclude_uids", uid, _UIDS, "Users whose connections go straight out.", "UIDS", many=True),
)


def read(given: Mapping[str, Sequence[str]], faults: Sequence[Fault] = ()) -> Redirection:
    """The redirection. Raises SettingsFault with `faults` and everything else that is wrong."""
    found = list(faults)
    values = {flag.name: _values(flag, given[flag.name], found) for flag in FLAGS if flag.name in given}
    right: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    found += [Fault(_flag(name), message) for name, message in _conflicts(right).items()]
    if found:
        raise SettingsFault(found)
    return Redirection(**right)


def _conflicts(given: dict[str, Any]) -> dict[str, str]:
    default = Redirection()
    names = ("inbound_port", "outbound_port", "sidecar_uid", "exclude_inbound_ports")
    return conflicts(*(given.get(name, getattr(default, name)) for name in names))


def _flag(name: str) -> str:
    return next(flag.flag for flag in FLAGS if flag.name == name)


def _values(flag: Flag, texts: Sequence[str], faults: list[Fault]) -> object:
    """The value, or None where it is wrong; then `faults` has it."""
    words = [word for text in texts for word in _SEVERAL.split(text) if word] if flag.many else list(texts)
    values = []
    for word in words:
        try:
            values.append(flag.parse(word))
        except ValueError as error:
            shown = word if len(word) <= MAX_SHOWN else word[:MAX_SHOWN] + "…"
            faults.append(Fault(flag.flag, f"{shown!r}: {error}; write {flag.accepted}"))
    if flag.many:
        return tuple(values)
    if len(words) != 1:
        faults.append(Fault(flag.flag, f"is given {len(words)} times; once is enough"))
    return values[0] if values else None


def _number(text: str, lowest: int, highest: int, otherwise: str) -> int:
    if not _NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
        raise ValueError(otherwise)
    return int(text)
