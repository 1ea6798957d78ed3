"""Injection in one cluster: the webhook, its registration, and what the admin API asks about them."""

import functools
from collections.abc import Sequence

import trio
from attrs import frozen

from certs.errors import CertsError
from control_plane.authority import AuthorityRefused
from control_plane.injector.registration import Registration
from control_plane.injector.review import review
from control_plane.injector.serving_certificate import Serving
from control_plane.injector.settings import InjectorSettings
from control_plane.injector.settings_file import load_settings
from control_plane.injector.webhook import Webhook
from control_plane.kubernetes.api import KubernetesApi
from control_plane.push.office import Office
from control_plane.settings import KubernetesSettings
from control_plane.tls_streams import ALPN

SERVICE = "doorward-injector"


@frozen(eq=False)
class Injection:
    """What there is of it. `namespace` is the control plane's own; without a webhook, pods can still be looked at."""

    api: KubernetesApi
    namespace: str
    webhook: Webhook | None = None
    registration: Registration | None = None

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve the webhook on `listeners` and keep its registration until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.webhook is not None:
                nursery.start_soon(self.webhook.serve, listeners)
            if self.registration is not None:
                nursery.start_soon(self.registration.run)


def open_injection(api: KubernetesApi, namespace: str, settings: KubernetesSettings, office: Office) -> Injection:
    """By the settings, one of which may name a file. Raises SettingRefused, AuthorityRefused."""
    if settings.injector_listen is None:
        return Injection(api, namespace)
    config = settings.injector_config
    injector = InjectorSettings() if config is None else load_settings(config)
    names = dns_names(settings.injector_service or f"{SERVICE}.{namespace}.svc")
    lifetime, clock = office.lifetimes.own_certificate, office.clock
    try:
        serving = Serving(office.authority, names, lifetime, clock, office.metrics, ALPN)
    except CertsError as error:
        raise AuthorityRefused(f"no certificate can be issued for the injector: {error}") from error
    webhook = Webhook(functools.partial(review, settings=injector), serving, office.metrics, office.limits)
    return Injection(api, namespace, webhook, Registration(api, settings.injector_webhook, office.authority))


def dns_names(service: str) -> tuple[str, ...]:
    """The names that a certificate for this one bears: API servers know a Service up to `.svc`, whatever follows it."""
    short, svc, domain = service.partition(".svc.")
    return (f"{short}.svc", service) if svc and domain else (service,)
