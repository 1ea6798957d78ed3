"""Settings from flags, environment and a TOML file, in that order of precedence, with every fault at once.

    flags     {name: [text, …]} as sidecar.cli collected them
    environ   DOORWARD_<NAME>; several values are separated by commas or spaces
    toml      the parsed file; limits stand in its table [limits]

A setting given in one place replaces the same setting from a lower one as a whole: lists are not added up.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from sidecar import parsing, table
from sidecar.settings import EVERY_ADDRESS, INBOUND_PORT, OUTBOUND_PORT, Address, Limits, Settings
from sidecar.table import Row

_SEVERAL: Final = re.compile(r",(?!port=)|\s+")  # `,port=` belongs to the value before it

_TRANSPARENT: Final = ("ports", "transparent_inbound_port", "transparent_outbound_port", "mesh_cidrs", "egress")

MAX_SHOWN: Final = 120  # characters of a wrong value in a message


@frozen
class Fault:
    """One wrong setting: where it was given, and what to write instead."""

    where: str  # such as --inbound, DOORWARD_INBOUND or `inbound` in the TOML file
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class SettingsFault(Exception):
    """Some settings are wrong; `faults` holds them all."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


@define
class _Reading:
    faults: list[Fault] = field(factory=list)
    values: dict[str, Any] = field(factory=dict)
    origins: dict[str, str] = field(factory=dict)

    def fault(self, where: str, message: str) -> None:
        self.faults.append(Fault(where, message))


def load(flags: Mapping[str, Sequence[str]], environ: Mapping[str, str], toml: Mapping[str, Any]) -> Settings:
    """The settings. Raises SettingsFault with everything that is wrong, in all three places."""
    reading = _Reading()
    from_toml = _flatten(toml, reading)
    for row in table.ROWS:
        where, texts = _given(row, flags, environ, from_toml)
        if texts is None:
            if row.required:
                reading.fault(
                    row.flag, f"is missing: write {row.accepted} (or set {row.variable}, or `{row.key}` in TOML)"
                )
            continue
        _take(row, where, texts, reading)
    _check_together(reading)
    if reading.faults:
        raise SettingsFault(reading.faults)
    limits = {name: reading.values.pop(name) for name in list(reading.values) if table.BY_NAME[name].limit}
    return Settings(**reading.values, limits=Limits(**limits))


def closest(word: str, known: Sequence[str]) -> str:
    """A hint such as "; did you mean `inbound`?", or "" where nothing known is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _given(
    row: Row, flags: Mapping[str, Sequence[str]], environ: Mapping[str, str], toml: Mapping[str, Sequence[str]]
) -> tuple[str, Sequence[str] | None]:
    if row.name in flags:
        return row.flag, flags[row.name]
    if (text := environ.get(row.variable)) is not None:
        return row.variable, [part for part in _SEVERAL.split(text) if part] if row.many else [text]
    return f"`{row.key}` in the TOML file", toml.get(row.name)


def _take(row: Row, where: str, texts: Sequence[str], reading: _Reading) -> None:
    values: list[object] = []
    for text in texts:
        try:
            values.append(row.parse(text))
        except ValueError as error:
            cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
            shown = f"{cut!r}: " if row.shown else ""
            reading.fault(where, f"{shown}{error}; write {row.accepted}")
    if not row.many and len(texts) != 1:
        reading.fault(where, f"is given {len(texts)} times; once is enough")
    elif len(values) == len(texts):
        reading.values[row.name] = tuple(values) if row.many else values[0]
        reading.origins[row.name] = where


def _flatten(toml: Mapping[str, Any], reading: _Reading) -> dict[str, list[str]]:
    """Every known key's texts; unknown keys and values of a wrong type become faults."""
    found: dict[str, list[str]] = {}
    limits = toml.get("limits", {})
    if not isinstance(limits, dict):
        reading.fault("`limits` in the TOML file", "is no table: write [limits] above the limits")
        limits = {}
    tables = ((toml, "", False), (limits, "limits.", True))
    for entries, prefix, limit in tables:
        for key, value in entries.items():
            row = table.BY_NAME.get(key)
            if key == "limits" and not limit:
                continue
            if row is None or row.limit != limit:
                reading.fault(f"`{prefix}{key}` in the TOML file", "is unknown" + _where_instead(key))
            elif (texts := _texts(row, value, reading)) is not None:
                found[row.name] = texts
    return found


def _where_instead(key: str) -> str:
    known = [row.key for row in table.ROWS if not row.limit]
    under = {row.name: row.key for row in table.ROWS}
    near = difflib.get_close_matches(key.replace("-", "_"), list(under), n=1, cutoff=0.6)
    return f"; did you mean `{under[near[0]]}`?" if near else f"; the keys are {', '.join(known)} and [limits]"


def _texts(row: Row, value: object, reading: _Reading) -> list[str] | None:
    where = f"`{row.key}` in the TOML file"
    if row.many:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        reading.fault(where, f"is no list of strings; write a list, each of it {row.accepted}")
    elif isinstance(value, str):
        return [value]
    elif row.switch and isinstance(value, bool):
        return [str(value).lower()]
    elif row.limit and isinstance(value, int | float) and not isinstance(value, bool):
        return [str(value)]
    else:
        reading.fault(where, f"is no {'string or number' if row.limit else 'string'}; write {row.accepted}")
    return None


def _check_together(reading: _Reading) -> None:
    """What each setting alone cannot see: two listeners in one place, an application that is Doorward itself."""
    values, origins = reading.values, reading.origins
    binds: list[tuple[str, Address]] = [("inbound", each.bind) for each in values.get("inbound", ())]
    binds += [("outbound", each.bind) for each in values.get("outbound", ()) if not each.unix]
    binds.append(("observe", values.get("observe", Address("127.0.0.1", 15020))))
    binds += _captures(values)
    for index, (name, bind) in enumerate(binds):
        if bind.port and any(_collide(bind, other) for _, other in binds[:index]):
            reading.fault(
                origins.get(name, table.BY_NAME[name].flag),
                f"{bind} is taken by another listener of this sidecar; choose another port",
            )
    sockets = Counter(each.bind for each in values.get("outbound", ()) if each.unix)
    for path in (path for path, times in sockets.items() if times > 1):
        reading.fault(
            origins["outbound"], f"unix:{path} is taken by another listener of this sidecar; choose another path"
        )
    _check_applications(reading, [bind for _, bind in binds])
    _check_protocols(reading)
    _check_transparent(reading, [bind for _, bind in binds])
    limits = Limits(**{name: value for name, value in values.items() if table.BY_NAME[name].limit})
    if limits.backoff_initial > limits.backoff_max:
        reading.fault(
            origins.get("backoff_initial", "--backoff-initial"), "is longer than backoff_max; write at most that"
        )


def _check_applications(reading: _Reading, binds: list[Address]) -> None:
    for inbound in reading.values.get("inbound", ()):
        if any(_would_reach(inbound.application, bind) for bind in binds):
            reading.fault(
                reading.origins["inbound"],
                f"application {inbound.application} is a listener of this sidecar; write where the application listens",
            )
    for probe in reading.values.get("probes", ()):
        if any(_would_reach(Address(probe.host or "localhost", probe.port), bind) for bind in binds):
            reading.fault(
                reading.origins["probes"],
                f"{probe.name} would ask port {probe.port}, a listener of this sidecar; write one of the application's",
            )


def _check_protocols(reading: _Reading) -> None:
    seen: dict[int, str] = {}
    declared = [(name, each) for name in ("inbound", "ports") for each in reading.values.get(name, ())]
    for name, each in declared:
        first = seen.setdefault(each.port, each.protocol)
        if first != each.protocol:
            reading.fault(reading.origins[name], f"port {each.port} is declared {first} and {each.protocol}; write one")


def _captures(values: Mapping[str, Any]) -> list[tuple[str, Address]]:
    """Where redirected connections are taken in transparent mode."""
    if not values.get("transparent"):
        return []
    return [
        ("transparent_inbound_port", Address("0.0.0.0", values.get("transparent_inbound_port", INBOUND_PORT))),  # noqa: S104  # compared, not bound
        ("transparent_outbound_port", Address("127.0.0.1", values.get("transparent_outbound_port", OUTBOUND_PORT))),
    ]


def _check_transparent(reading: _Reading, binds: list[Address]) -> None:
    for name in _TRANSPARENT:
        if name in reading.values and not reading.values.get("transparent"):
            reading.fault(reading.origins[name], "means nothing without --transparent; add that, or leave this out")
    for declared in reading.values.get("ports", ()):
        if any(declared.port == bind.port for bind in binds):
            reading.fault(
                reading.origins["ports"],
                f"{declared} is a listener of this sidecar; write a port where the application listens",
            )


def _collide(one: Address, other: Address) -> bool:
    return one.port == other.port and (_host(one) == _host(other) or _everywhere(one) or _everywhere(other))


def _would_reach(dialled: Address, bind: Address) -> bool:
    """True where connecting to an address would connect to `bind`, as far as the two tell."""
    if not bind.port or dialled.port != bind.port:
        return False
    return _host(dialled) == _host(bind) or (_everywhere(bind) and parsing.is_loopback(dialled.host))


def _everywhere(address: Address) -> bool:
    return address.host in {"0.0.0.0", "::", EVERY_ADDRESS}  # noqa: S104  # compared, not bound


def _host(address: Address) -> str:
    return "127.0.0.1" if address.host == "localhost" else address.host
