"""The file of `--injector-config` to InjectorSettings: strict YAML, camelCase keys, every fault at once."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from control_plane.injector import values
from control_plane.injector.faults import Fault, shown
from control_plane.injector.settings import BothResources, InjectorSettings, Ports, Resources
from control_plane.injector.values import Kind
from control_plane.settings import SettingRefused

MAX_BYTES: Final = 1024 * 1024

_CONFIG_MAP: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}", re.ASCII)
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


class InjectorSettingsRefused(SettingRefused):
    """The file cannot be used; `faults` has everything that is wrong with it."""

    def __init__(self, source: str, faults: list[Fault]) -> None:
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))
        self.faults = tuple(faults)


def load_settings(file: Path) -> InjectorSettings:
    """The settings in that file. Raises InjectorSettingsRefused, also where it cannot be read."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InjectorSettingsRefused(str(file), [Fault("", f"cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_BYTES:
        raise InjectorSettingsRefused(str(file), [Fault("", f"is longer than {MAX_BYTES} bytes")])
    try:
        return read_settings(content.decode("utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise InjectorSettingsRefused(str(file), [Fault("", f"is not UTF-8: byte {error.start}")]) from None


def read_settings(text: str, source: str) -> InjectorSettings:
    """The settings in that text; an empty one is the defaults. Raises InjectorSettingsRefused, naming `source`."""
    from control_plane.yaml_core import parse

    documents, found = parse(text, source)
    faults = [Fault(fault.path, fault.message) for fault in found]
    if len(documents) > 1:
        faults.append(Fault("", f"holds {len(documents)} documents: write one"))
    reading = _Reading(faults, frozenset(fault.path for fault in faults))
    given = reading.map(documents[0].content if documents else {}, "", _FIELDS)
    settings = InjectorSettings(**given)
    faults += _conflicts(settings)
    if faults:
        raise InjectorSettingsRefused(source, faults)
    return settings


@define
class _Reading:
    """Values out of plain data; what is wrong goes to `faults`. `known` are places whose fault was said already."""

    faults: list[Fault]
    known: frozenset[str] = field(factory=frozenset)

    def fault(self, path: str, value: object, accepted: str) -> None:
        if path not in self.known:
            self.faults.append(Fault(path, f"{shown(value)}: write {accepted}"))

    def map(self, value: object, path: str, fields: "_Fields") -> dict[str, Any]:
        """What the map gives for these fields, by attribute."""
        if not isinstance(value, dict):
            self.fault(path, value, f"a map with the keys {', '.join(fields)}")
            return {}
        found: dict[str, Any] = {}
        for key, each in value.items():
            below = f"{path}.{key}" if path else key
            if key not in fields:
                self.faults.append(Fault(below, f"is unknown: the keys here are {', '.join(fields)}"))
                continue
            attribute, read = fields[key]
            taken = read(self, each, below)
            if taken is not None:
                found[attribute] = taken
        return found

    def check(self, value: object, path: str, kind: Kind) -> str | None:
        """The text as `kind` takes it, or None after a fault."""
        if isinstance(value, str):
            try:
                return kind.check(value)
            except ValueError as error:
                self.fault(path, value, f"{kind.accepted} ({error})")
                return None
        self.fault(path, value, kind.accepted)
        return None


_Read = Callable[[_Reading, object, str], Any]
_Fields = Mapping[str, tuple[str, _Read]]


def _text(kind: Kind) -> _Read:
    return lambda reading, value, path: reading.check(value, path, kind)


def _texts(kind: Kind) -> _Read:
    """A list of such texts; whole numbers stand for themselves, since ports are written so."""

    def read(reading: _Reading, value: object, path: str) -> tuple[str, ...] | None:
        if not isinstance(value, list):
            reading.fault(path, value, f"a list of {kind.accepted}")
            return None
        texts = [str(each) if type(each) is int else each for each in value]
        checked = [reading.check(each, f"{path}[{index}]", kind) for index, each in enumerate(texts)]
        return tuple(each for each in checked if each is not None)

    return read


def _number(lowest: int, highest: int) -> _Read:
    def read(reading: _Reading, value: object, path: str) -> int | None:
        if type(value) is int and lowest <= value <= highest:
            return value
        reading.fault(path, value, f"a whole number from {lowest} to {highest}")
        return None

    return read


def _switch(reading: _Reading, value: object, path: str) -> bool | None:
    if isinstance(value, bool):
        return value
    reading.fault(path, value, "true or false")
    return None


def _quantities(reading: _Reading, value: object, path: str) -> dict[str, str] | None:
    """Resources by name; whole numbers stand for themselves, as in Kubernetes."""
    if not isinstance(value, dict):
        reading.fault(path, value, "a map such as {cpu: 100m, memory: 128Mi}")
        return None
    found = {}
    for name, each in value.items():
        text = str(each) if type(each) is int else each
        checked = reading.check(text, f"{path}.{name}", values.QUANTITY)
        if checked is not None:
            found[name] = checked
    return found


def _nested(make: Callable[..., object], fields: _Fields) -> _Read:
    return lambda reading, value, path: make(**reading.map(value, path, fields))


def _matching(pattern: "re.Pattern[str]", accepted: str) -> Kind:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError("is none")
        return text

    return Kind(check, accepted)


_PORT: Final = _number(1, 65535)
_RESOURCES: Final = _nested(Resources, {"requests": ("requests", _quantities), "limits": ("limits", _quantities)})
_FIELDS: Final[_Fields] = {
    "image": ("image", _text(_matching(_IMAGE, "an image's name, such as registry.example/doorward-sidecar:1.0"))),
    "imagePullPolicy": ("image_pull_policy", _text(values.one_of("Always", "IfNotPresent", "Never"))),
    "controlPlane": ("control_plane", _text(values.DIAL_ADDRESS)),
    "trustDomain": ("trust_domain", _text(values.TRUST_DOMAIN)),
    "nativeSidecar": ("native_sidecar", _switch),
    "sidecarUid": ("sidecar_uid", _number(1, 2**31 - 1)),  # the highest that Kubernetes takes for runAsUser
    "ports": (
        "ports",
        _nested(Ports, {name: (name, _PORT) for name in ("inbound", "outbound", "observe")}),
    ),
    "tokenAudience": ("token_audience", _text(_matching(_AUDIENCE, "an audience, such as doorward"))),
    "tokenExpirationSeconds": ("token_expiration_seconds", _number(600, 2**32 - 1)),  # the bounds of the API server
    "trustBundle": ("trust_bundle", _text(_matching(_CONFIG_MAP, "a ConfigMap's name, such as doorward-trust-bundle"))),
    "meshCIDRs": ("mesh_cidrs", _texts(values.NETWORK)),
    "egress": ("egress", _text(values.EGRESS)),
    "excludeInboundPorts": ("exclude_inbound_ports", _texts(values.PORTS)),
    "excludeOutboundPorts": ("exclude_outbound_ports", _texts(values.PORTS)),
    "excludeOutboundAddresses": ("exclude_outbound_addresses", _texts(values.NETWORK)),
    "resources": (
        "resources",
        _nested(BothResources, {name: (name, _RESOURCES) for name in ("sidecar", "redirect")}),
    ),
    "logLevel": ("log_level", _text(values.LOG_LEVEL)),
    "requestLog": ("request_log", _text(values.REQUEST_LOG)),
    "drainSeconds": ("drain_seconds", _number(1, 86_400)),
}

ATTRIBUTES: Final = {key: attribute for key, (attribute, _) in _FIELDS.items()}
"""The attribute of InjectorSettings that each key of the file sets."""
KEYS: Final = tuple(ATTRIBUTES)
"""Every key of the file, as the chart renders them."""


def _conflicts(settings: InjectorSettings) -> list[Fault]:
    """What each setting alone cannot see."""
    found = []
    ports = settings.ports
    if len({ports.inbound, ports.outbound, ports.observe}) < 3:
        found.append(Fault("ports", "the sidecar has a listener for each: give three different ports"))
    found += [
        Fault("excludeInboundPorts", f"{own} is a port of the sidecar itself: leave it out")
        for own in values.held(settings.exclude_inbound_ports, (ports.inbound, ports.outbound))
    ]
    for name in ("sidecar", "redirect"):
        resources: Resources = getattr(settings.resources, name)
        found += [
            Fault(f"resources.{name}", f"asks for more {each} than its limit: write a lower request or a higher limit")
            for each in values.above_limit(resources.requests, resources.limits)
        ]
    return found
