"""The cluster around a control plane: how it is reached, and every task that lives on it, in one nursery.

Only `--kubernetes` starts any of it. What a task has read of the cluster stays in force while the API server is away;
the control plane is ready once everything that it watches was listed for the first time.
"""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import trio
from attrs import field, frozen

from control_plane.admin.backend import Backend
from control_plane.discovery.watch import Discovery
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.trust_bundles import TrustBundles
from control_plane.kubernetes.watching import Watched
from control_plane.log import fields
from control_plane.metrics import Metrics
from control_plane.push.office import Office
from control_plane.resources.tasks import keep_policies
from control_plane.settings import SERVICE_ACCOUNT, HostPort, KubernetesSettings, SettingRefused

DEFAULT_NAMESPACE = "doorward"

log = logging.getLogger("doorward.cluster")

T = TypeVar("T")


@frozen(eq=False)
class Cluster:
    """What the tasks in the cluster stand on. `namespace` is the control plane's own."""

    api: KubernetesApi
    namespace: str
    settings: KubernetesSettings
    office: Office
    backend: Backend
    watched: list[Watched[Any]] = field(factory=list)
    """What has to be listed once before this control plane is ready."""

    def watch(
        self,
        path: str,
        keep: Callable[[dict[str, Any]], T | None],
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Watched[T]:
        """A kind of object without which the control plane is not ready. The caller runs it."""
        watched = Watched(self.api, path, keep, label_selector, field_selector)
        self.watched.append(watched)
        return watched

    def unready(self) -> str:
        """Why the cluster is not known yet; "" once it was, also while the API server is away."""
        waiting = [watched.kind for watched in self.watched if not watched.synced]
        if not waiting:
            return ""
        why = self.api.contact.away or "they are being listed"
        return f"waits for the API server's {', '.join(waiting)}: {why}"


async def run_cluster(cluster: Cluster, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Run every task of the cluster until cancelled."""
    log.info("in a cluster", extra=fields(server=cluster.api.url, namespace=cluster.namespace))
    discovery = Discovery.open(cluster.watch, cluster.office, cluster.backend.discovered)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(discovery.run)
        nursery.start_soon(keep_policies, cluster.api, cluster.backend, cluster.office.metrics)
        nursery.start_soon(_trust_bundles(cluster).run)
        task_status.started()
        await trio.sleep_forever()


def _trust_bundles(cluster: Cluster) -> TrustBundles:
    authority = cluster.office.authority
    return TrustBundles(cluster.api, lambda: authority.bundle.to_pem().decode(), cluster.office.advance)


def open_api(
    settings: KubernetesSettings, metrics: Metrics, environment: Mapping[str, str] = os.environ
) -> KubernetesApi | None:
    """The API server's client; None where there is no cluster. Raises SettingRefused. Connects later."""
    if not settings.enabled:
        return None
    url = _in_cluster(environment) if settings.server == "in-cluster" else settings.server
    ca, token_file = settings.ca or SERVICE_ACCOUNT / "ca.crt", settings.token_file or SERVICE_ACCOUNT / "token"
    if not token_file.exists():
        raise SettingRefused(f"kubernetes_token_file: there is no {token_file}: name a file that holds a token")
    try:
        return KubernetesApi.open(url, ca=ca, token_file=token_file, metrics=metrics)
    except OSError as error:
        raise SettingRefused(
            f"kubernetes_ca: {ca} cannot be used ({error.strerror or error}): name a file of CA certificates, PEM"
        ) from error


def own_namespace(settings: KubernetesSettings) -> str:
    """Where the control plane itself runs."""
    if settings.namespace is not None:
        return settings.namespace
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text("ascii").strip() or DEFAULT_NAMESPACE
    except (OSError, UnicodeDecodeError):
        return DEFAULT_NAMESPACE


def _in_cluster(environment: Mapping[str, str]) -> str:
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingRefused(
            "kubernetes: in-cluster, but KUBERNETES_SERVICE_HOST is not set: this is no pod; write https://HOST:PORT"
        )
    bracketed = f"[{host}]" if ":" in host else host
    return f"https://{HostPort.parse(f'{bracketed}:{port}', 'KUBERNETES_SERVICE_HOST')}"
