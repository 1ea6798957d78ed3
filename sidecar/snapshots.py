"""What becomes of a snapshot that the control plane sent: enforced whole and acknowledged, or refused whole.

Order: older than ours? -> hash -> compile (in a thread, it may take long) -> swap -> decide live connections again ->
Ack. Ack says "enforced, on live connections too", so it comes last. A snapshot that fails anywhere changes nothing:
the last good one goes on being enforced, and the Nack says why.
"""

from functools import partial

import trio

from certs.errors import CertsError
from certs.spiffe import TrustDomain
from mesh.policy import PolicyFaults
from mesh.wire import Ack, Nack, Snapshot, is_intact
from sidecar import log
from sidecar.live import LiveConnections
from sidecar.metrics import Metrics
from sidecar.view import Mesh, StaleSnapshot, View

MAX_PROBLEM = 4000  # characters of a Nack's text; the wire takes 8,192


class SnapshotRefused(Exception):
    """The snapshot cannot be enforced. `code` is a short name of ours."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Snapshots:
    """Applies snapshots one after another."""

    def __init__(self, mesh: Mesh, live: LiveConnections, metrics: Metrics, trust_domain: TrustDomain) -> None:
        self._mesh = mesh
        self._live = live
        self._metrics = metrics
        self._trust_domain = trust_domain
        self._enforced: tuple[str, int, str] | None = None

    async def apply(self, snapshot: Snapshot) -> Ack | Nack:
        """Enforce `snapshot` and return what to answer. Raises nothing but cancellation."""
        try:
            await self._enforce(snapshot)
        except SnapshotRefused as refusal:
            code, problem = refusal.code, str(refusal)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not cost the last good snapshot and the program
            log.error("snapshot failed", exception=error, number=snapshot.number)
            code, problem = "internal_error", f"the sidecar failed on it: {type(error).__name__}"
        else:
            return Ack(snapshot.epoch, snapshot.number)
        self._metrics.snapshot(code)
        log.warning("snapshot refused", number=snapshot.number, code=code, problem=problem)
        return Nack("Snapshot", code, problem[:MAX_PROBLEM])

    async def _enforce(self, snapshot: Snapshot) -> None:
        key = snapshot.epoch, snapshot.number, snapshot.hash
        if key == self._enforced:
            return  # sent again on a new link
        self._refuse_stale(snapshot)
        view = await trio.to_thread.run_sync(partial(self._compile, snapshot))
        try:
            self._mesh.replace_view(view)
        except StaleSnapshot as error:
            raise SnapshotRefused("stale", str(error)) from None
        ended = await self._live.redecide(view)
        self._enforced = key
        self._metrics.snapshot("accepted", view.number)
        log.info("snapshot enforced", epoch=view.epoch, number=view.number, connections_ended=ended)

    def _refuse_stale(self, snapshot: Snapshot) -> None:
        view = self._mesh.view
        if view is not None and snapshot.epoch == view.epoch and snapshot.number < view.number:
            raise SnapshotRefused("stale", f"snapshot {snapshot.number} is older than {view.number}, which is enforced")

    def _compile(self, snapshot: Snapshot) -> View:
        if not is_intact(snapshot):
            raise SnapshotRefused("wrong_hash", "the snapshot's content does not match its hash")
        try:
            view = View.build(snapshot, self._trust_domain)
        except PolicyFaults as error:
            raise SnapshotRefused("policy_faults", str(error)) from None
        except CertsError as error:
            raise SnapshotRefused("malformed", str(error)) from None
        if not view.bundle.roots_of(self._trust_domain.name):
            raise SnapshotRefused("no_root", f"the snapshot holds no root of {self._trust_domain}")
        return view
