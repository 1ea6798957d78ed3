"""The rules as text for `iptables-restore --noflush`, and for its twin of IPv6. Nothing here runs anything.

Each text is one transaction: the kernel has all of it, or nothing changed. It is made for a machine whose nat table
`iptables-save -t nat` printed as `saved`, and the jumps that stand there are deleted with it: so it can be installed
over itself, and over other exclusions.
"""

import shlex
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import pairwise
from typing import Any, Final

from attrs import field, frozen
from attrs.validators import and_, deep_iterable, ge, instance_of, le

from sidecar.settings import INBOUND_PORT, OUTBOUND_PORT

INBOUND: Final = "DOORWARD_IN"
OUTBOUND: Final = "DOORWARD_OUT"
CHAINS: Final = (INBOUND, OUTBOUND)

HIGHEST_PORT: Final = 65_535
HIGHEST_UID: Final = 2**32 - 2  # the one above means "no user" to the kernel

Network = IPv4Network | IPv6Network

_NUMBER: Final = instance_of(int)
_PORT: Final = and_(_NUMBER, ge(1), le(HIGHEST_PORT))
_UID: Final = and_(_NUMBER, ge(0), le(HIGHEST_UID))


@frozen
class Ports:
    """The TCP ports from `first` to `last`, both included. Raises ValueError where that is no range of ports."""

    first: int = field(validator=_PORT)
    last: int = field(validator=_PORT)

    def __attrs_post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError("begins above its end")

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @classmethod
    def one(cls, port: int) -> "Ports":
        """That port alone."""
        return cls(port, port)


def _all(kind: type[object]) -> Any:
    return deep_iterable(instance_of(kind), instance_of(tuple))


@frozen
class Redirection:
    """What is captured, where it goes, and what is let past. Raises ValueError or TypeError for anything else."""

    inbound_port: int = field(default=INBOUND_PORT, validator=_PORT)
    outbound_port: int = field(default=OUTBOUND_PORT, validator=_PORT)
    sidecar_uid: int = field(default=1_337, validator=_UID)
    exclude_inbound_ports: tuple[Ports, ...] = field(default=(Ports.one(15_020),), validator=_all(Ports))
    exclude_outbound_ports: tuple[Ports, ...] = field(default=(), validator=_all(Ports))
    exclude_outbound_addresses: tuple[Network, ...] = field(
        default=(), validator=deep_iterable(instance_of((IPv4Network, IPv6Network)), instance_of(tuple))
    )
    exclude_uids: tuple[int, ...] = field(default=(), validator=deep_iterable(_UID, instance_of(tuple)))

    def __attrs_post_init__(self) -> None:
        if found := conflicts(self.inbound_port, self.outbound_port, self.sidecar_uid, self.exclude_inbound_ports):
            raise ValueError("; ".join(found.values()))


def conflicts(inbound: int, outbound: int, uid: int, excluded: Iterable[Ports]) -> dict[str, str]:
    """What would let connections past the sidecar unnoticed: the name of the value, and what is wrong with it."""
    found = {}
    if uid == 0:
        found["sidecar_uid"] = "0 is root, and all of root's connections would go past; give the sidecar its own user"
    if inbound == outbound:
        found["outbound_port"] = f"{outbound} is the inbound port too; the sidecar has a listener for each"
    if own := [port for port in (inbound, outbound) if any(port in ports for ports in excluded)]:
        found["exclude_inbound_ports"] = f"{own[0]} is a port of the sidecar itself, which nobody may call directly"
    return found


def install_text(redirection: Redirection, version: int, saved: str = "") -> str:
    """What installs the rules for that IP version (4 or 6) and nothing twice; `saved` is empty where nothing stands."""
    return _transaction(
        [f":{chain} - [0:0]" for chain in CHAINS],  # makes the chain, or empties it
        _deletions(saved),
        _inbound(redirection),
        _outbound(redirection, version),
        # First in their chains: a rule before them could send connections past the sidecar.
        [f"-I PREROUTING -p tcp -j {INBOUND}", f"-I OUTPUT -p tcp -j {OUTBOUND}"],
    )


def remove_text(saved: str) -> str:
    """What takes all of it away, or "" where nothing of it is there."""
    chains = _chains(saved)
    removed = [*_deletions(saved), *(f"-F {chain}" for chain in chains), *(f"-X {chain}" for chain in chains)]
    return _transaction(removed) if removed else ""


def restore_text(before: str, saved: str) -> str:
    """What makes of `saved` again what our chains were in `before`, or "" where neither holds anything of ours."""
    if not _chains(before):
        return remove_text(saved)
    jumps = [_altered("-I", line) for line in reversed(_jumps(before))]
    rules = [line for line in _rules(before) if line.split()[1] in CHAINS]
    return _transaction([f":{chain} - [0:0]" for chain in CHAINS], _deletions(saved), rules, jumps)


def _inbound(redirection: Redirection) -> list[str]:
    past = ["-i lo", *map(_to_ports, redirection.exclude_inbound_ports)]
    return _chain(INBOUND, past, redirection.inbound_port)


def _outbound(redirection: Redirection, version: int) -> list[str]:
    past = [f"-m owner --uid-owner {uid:d}" for uid in (redirection.sidecar_uid, *redirection.exclude_uids)]
    past.append("-o lo")
    past += [f"-d {_cidr(each)}" for each in redirection.exclude_outbound_addresses if each.version == version]
    past += map(_to_ports, redirection.exclude_outbound_ports)
    return _chain(OUTBOUND, past, redirection.outbound_port)


def _chain(name: str, past: Iterable[str], port: int) -> list[str]:
    returns = [f"-A {name} {match} -j RETURN" for match in past]
    return [*returns, f"-A {name} -p tcp -j REDIRECT --to-ports {port:d}"]


def _to_ports(ports: Ports) -> str:
    last = "" if ports.first == ports.last else f":{ports.last:d}"
    return f"-p tcp -m tcp --dport {ports.first:d}{last}"


def _cidr(network: Network) -> str:
    """From its numbers alone: an IPv6 network of Python may carry a zone, which is any text."""
    address = network.network_address
    return f"{ip_address(address.packed)}/{network.prefixlen:d}"


def _transaction(*parts: Sequence[str]) -> str:
    lines = [line for part in parts for line in part]
    return "\n".join(["*nat", *lines, "COMMIT", ""])


def _deletions(saved: str) -> list[str]:
    return [_altered("-D", line) for line in _jumps(saved)]


def _altered(action: str, line: str) -> str:
    return f"{action} {line.removeprefix('-A ')}"


def _jumps(saved: str) -> list[str]:
    """The rules of other chains that lead into ours, whoever added them and however often."""
    return [line for line in _rules(saved) if line.split()[1] not in CHAINS and _target(line) in CHAINS]


def _target(line: str) -> str:
    try:
        words = shlex.split(line)  # a comment is one word, whatever it says
    except ValueError:  # an extension that does not quote as the others do
        words = line.split()
    return next((after for word, after in pairwise(words) if word in {"-j", "-g"}), "")


def _rules(saved: str) -> list[str]:
    return [line for line in saved.splitlines() if line.startswith("-A ")]


def _chains(saved: str) -> list[str]:
    return [chain for chain in CHAINS if any(line.startswith(f":{chain} ") for line in saved.splitlines())]
