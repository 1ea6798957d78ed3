"""Whether the API server is there, as everybody's requests find it: said once when it goes, and once when it is back.

Being away is no fault of ours: what was read from it stays in force, and whoever needs it tries again.
"""

import logging

import trio
from attrs import define

from control_plane.kubernetes.errors import ApiRefused, ApiUnreachable, KubernetesError
from control_plane.log import fields
from control_plane.metrics import Metrics

SAYS_NOTHING = frozenset({401, 403, 429})
"""HTTP statuses that one that is only starting gives as well, like all from 500 on."""

log = logging.getLogger("doorward.kubernetes")


@define(eq=False)
class Contact:
    """What the last requests showed. `away` is why there is no API server, "" where there is one."""

    metrics: Metrics
    away: str = ""
    ever: bool = False
    """It has answered once."""
    _since: float = 0.0

    def answered(self) -> None:
        """A request got an answer, whichever."""
        self.ever = True
        if self.away:
            log.info("the API server is back", extra=fields(after=round(trio.current_time() - self._since, 1)))
            self.away = ""
            self.metrics.kubernetes_away.set(0)

    def failed(self, error: KubernetesError) -> None:
        """A request got no good answer."""
        self.metrics.kubernetes_requests_failed.labels(_name(error)).inc()
        if isinstance(error, ApiUnreachable):
            self._lost(str(error))
        elif isinstance(error, ApiRefused) and error.status < 500 and error.status not in SAYS_NOTHING:
            self.answered()

    def _lost(self, reason: str) -> None:
        if not self.away:
            self.away, self._since = reason, trio.current_time()
            self.metrics.kubernetes_away.set(1)
            log.warning("the API server is away; what was read from it stays in force", extra=fields(reason=reason))


def _name(error: KubernetesError) -> str:
    if isinstance(error, ApiRefused):
        return str(error.status) if 400 <= error.status < 600 else "refused"
    return "unreachable" if isinstance(error, ApiUnreachable) else "strange"
