"""The options of `doorward control-plane run`, one table: name, kind, default and meaning of each setting.

The table drives the command line and the environment (`DOORWARD_CONTROL_PLANE_<NAME>`); a flag wins over the
environment. docs/configuration/control-plane.md repeats it; a test compares the two, and the table with
`control_plane.settings`.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from attrs import fields, frozen

from control_plane.cli.parameters import Duration
from control_plane.settings import ControlPlaneSettings, HostPort, KubernetesSettings, Lifetimes, Limits, SettingRefused

ENVIRONMENT = "DOORWARD_CONTROL_PLANE_"
OFF = "off"
MAY_BE_OFF = frozenset({"top_observe", "top_admin_listen", "kubernetes_injector_listen"})

LIFETIMES = {
    "certificate": "Of a workload's certificate; sidecars renew at half of it.",
    "own_certificate": "Of the control plane's own certificate.",
    "issuer": "Of the issuing intermediate, which is replaced at half of it.",
    "root": "Of the root that the first run makes.",
    "attestation": "How long a sidecar may renew before it has to show a new token.",
    "lease": "How long a registered endpoint stays without being renewed.",
    "operator": "The longest for which an operator may ask for a certificate.",
    "policy_history": "How long each version of a policy is kept, where there is room.",
}

LIMITS = {
    "links": "Connected sidecars.",
    "unauthenticated_links": "Connections that have shown no certificate yet. Where there is no room, one that has had "
    "2 s gives way, and at once one of an address that holds more than the newcomer's.",
    "unauthenticated_links_per_address": "The same, from one address.",
    "handshake_timeout": "For the TLS handshake.",
    "hello_timeout": "From the handshake to the sidecar's first message.",
    "unauthenticated_lifetime": "For everything that a connection without a certificate does.",
    "unauthenticated_requests": "Certificate requests on a connection without a certificate.",
    "renewals_per_minute": "Certificates that one identity renews or its pods attest, in a minute.",
    "write_timeout": "For a sidecar to take a message.",
    "ping_interval": "Between two signs of life asked of a sidecar.",
    "silence_timeout": "After which a silent sidecar is taken for gone.",
    "lease_renewal": "Between two renewals of a connected sidecar's endpoints.",
    "endpoints_per_identity": "Registered endpoints of one identity.",
    "proof_timeout": "For an announced address to prove whose it is.",
    "proofs_at_once": "Announced addresses that are dialled at the same time.",
    "review_timeout": "For the API server to say whose a service-account token is; sidecars wait 10 s.",
    "reviews_at_once": "Service-account tokens about which the API server is asked at the same time.",
    "metrics_connections": "Connections to the observe address at the same time; the one that has waited longest gives "
    "way to a newcomer.",
    "admin_connections": "The same, to the admin socket.",
    "operator_connections": "The same, of operators to --admin-listen.",
    "injector_connections": "The same, of API servers to --injector-listen.",
    "policy_versions": "Versions of one policy that are kept however old they are, where there is room.",
    "policy_history_mib": "MiB for the versions of policies that are not in force; where they are full, the oldest of "
    "the namespace that holds most go.",
    "audit_mib": "MiB for the audit log; where they are full, the oldest entries of the namespace that holds most go.",
}


@frozen
class Setting:
    """One option. `where` says which part of the settings it fills, `field` which field of it."""

    option: str
    where: str
    field: str
    kind: click.ParamType[Any]
    default: str
    meaning: str

    @property
    def environment(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT + self.option.removeprefix("--").replace("-", "_").upper()

    @property
    def parameter(self) -> str:
        """Its name among the command's parameters."""
        return f"{self.where}_{self.field}"


class _Address(click.ParamType[HostPort | None]):
    """HOST:PORT."""

    name = "host:port"

    def convert(
        self, value: str | HostPort, param: click.Parameter | None, ctx: click.Context | None
    ) -> HostPort | None:
        if isinstance(value, HostPort):
            return value
        if value == OFF and param is not None and param.name in MAY_BE_OFF:
            return None
        try:
            return HostPort.parse(value, "address")
        except SettingRefused as error:
            self.fail(str(error), param, ctx)


def _text(value: object) -> str:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
            if seconds % size == 0:
                return f"{seconds / size:g}{unit}"
        return f"{seconds:g}s"
    return f"{value:g}s" if isinstance(value, float) else str(value)


def _lifetimes() -> list[Setting]:
    defaults, found = Lifetimes(), []
    for name, meaning in LIFETIMES.items():
        option = f"--{name.replace('_', '-')}-lifetime"
        found.append(Setting(option, "lifetime", name, Duration(), _text(getattr(defaults, name)), meaning))
    return found


def _limits() -> list[Setting]:
    defaults, found = Limits(), []
    for name, meaning in LIMITS.items():
        default, dashed = getattr(defaults, name), name.replace("_", "-")
        if isinstance(default, float):
            found.append(Setting(f"--{dashed}", "limit", name, Duration(), _text(default), meaning))
        else:
            found.append(Setting(f"--max-{dashed}", "limit", name, click.IntRange(1), _text(default), meaning))
    return found


_FILE = click.Path(path_type=Path)

_TOP: tuple[tuple[str, str, click.ParamType[Any], str, str], ...] = (
    ("--state", "state", _FILE, "/var/lib/doorward", "The state directory: keys, store, admin socket."),
    ("--listen", "listen", _Address(), "127.0.0.1:7443", "Where sidecars connect."),
    ("--trust-domain", "trust_domain", click.STRING, "", "As the state directory says; cluster.local in a new one."),
    ("--observe", "observe", _Address(), "127.0.0.1:7480", "Where /ready, /live and /metrics answer; or off."),
    ("--observe-host", "observe_hosts", click.STRING, "", "A host name under which that may be asked; repeatable."),
    ("--ca-certificate", "ca_certificate", _FILE, "", "Your own CA: its chain up to the root, PEM."),
    ("--ca-key", "ca_key", _FILE, "", "Your own CA: its key, PEM."),
    ("--store", "store_url", click.STRING, "", "The store's URL; without it, SQLite in the state directory."),
    ("--admin-socket", "admin_socket", _FILE, "", "Without it, admin.sock in the state directory."),
    ("--admin-listen", "admin_listen", _Address(), "off", "Where the admin API answers operators, over TLS; or off."),
)

_KUBERNETES: tuple[tuple[str, str, click.ParamType[Any], str, str], ...] = (
    ("--kubernetes", "server", click.STRING, "off", "The API server: off, in-cluster, or https://HOST:PORT."),
    ("--kubernetes-token-file", "token_file", _FILE, "", "The token to show it; without it, the service account's."),
    ("--kubernetes-ca", "ca", _FILE, "", "The CAs of the API server, PEM; without it, the service account's."),
    (
        "--kubernetes-namespace",
        "namespace",
        click.STRING,
        "",
        "The own namespace; without it, the service account's, or else doorward.",
    ),
    ("--token-audience", "token_audience", click.STRING, "doorward", "Of the service-account tokens of workloads."),
    ("--ca-secret", "ca_secret", click.STRING, "", "A Secret with the CA, made where it is missing; instead of files."),
    ("--injector-listen", "injector_listen", _Address(), "off", "Where the injector answers API servers; or off."),
    ("--injector-config", "injector_config", _FILE, "", "What the injector puts into pods; without it, the defaults."),
    (
        "--injector-service",
        "injector_service",
        click.STRING,
        "",
        "The DNS name in the injector's certificate; without it, doorward-injector.<namespace>.svc.",
    ),
    (
        "--injector-webhook",
        "injector_webhook",
        click.STRING,
        "doorward-injector",
        "The MutatingWebhookConfiguration whose caBundle is kept current.",
    ),
)

SETTINGS: tuple[Setting, ...] = (
    *(Setting(option, "top", name, kind, default, meaning) for option, name, kind, default, meaning in _TOP),
    *(
        Setting(option, "kubernetes", name, kind, default, meaning)
        for option, name, kind, default, meaning in _KUBERNETES
    ),
    *_lifetimes(),
    *_limits(),
)


def options(command: Any) -> Any:
    """Give a command an option for every setting."""
    for setting in reversed(SETTINGS):
        many = setting.field == "observe_hosts"
        command = click.option(
            setting.option,
            setting.parameter,
            type=setting.kind,
            multiple=many,
            default=None if many else setting.default or None,
            show_default=bool(setting.default),
            envvar=setting.environment,
            show_envvar=False,
            help=setting.meaning,
        )(command)
    return command


def build(values: Mapping[str, Any]) -> ControlPlaneSettings:
    """The settings that a command line's parameters mean. Raises SettingRefused."""
    top = {each.field: values[each.parameter] for each in SETTINGS if each.where == "top"}
    lifetimes = {each.field: values[each.parameter] for each in SETTINGS if each.where == "lifetime"}
    limits = {each.field: _plain(values[each.parameter]) for each in SETTINGS if each.where == "limit"}
    kubernetes = {each.field: values[each.parameter] for each in SETTINGS if each.where == "kubernetes"}
    return ControlPlaneSettings(
        **top, kubernetes=KubernetesSettings(**kubernetes), lifetimes=Lifetimes(**lifetimes), limits=Limits(**limits)
    )


def _plain(value: Any) -> Any:
    """trio waits for seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def unlisted() -> set[str]:
    """Fields of the settings that no option sets; a test keeps this empty."""
    listed = {(each.where, each.field) for each in SETTINGS}
    kinds = {
        "top": ControlPlaneSettings,
        "kubernetes": KubernetesSettings,
        "lifetime": Lifetimes,
        "limit": Limits,
    }
    every = {(where, each.name) for where, kind in kinds.items() for each in fields(kind)}
    return {f"{where}.{name}" for where, name in every - listed} - {"top.lifetimes", "top.limits", "top.kubernetes"}
