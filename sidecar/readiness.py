"""Is this sidecar ready, and if not, why: the one place that knows, asked by /ready and told by everyone else.

Ready means: every listener stands, an own certificate that has not run out, a first snapshot, and no drain under way.
A control plane that is away does not make a sidecar unready: the last snapshot goes on being enforced.
"""

from datetime import datetime

from sidecar import log
from sidecar.view import Mesh


class Readiness:
    """Gathers what is known. `link_problem` is the control link's last failure, "" while it stands."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._said: bool | None = None
        self.listening = False
        self.draining = False
        self.link_problem = "the control plane was not reached yet"

    def missing(self) -> tuple[str, ...]:
        """Why this sidecar is not ready, a sentence each; empty where it is."""
        return tuple(self._missing(self._mesh.now()))

    def look(self) -> bool:
        """Whether it is ready now; logs each change of it."""
        missing = self.missing()
        if self._said is not (ready := not missing):
            self._said = ready
            if ready:
                log.info("ready")
            else:
                log.info("not ready", reasons=missing)
        return ready

    def _missing(self, now: datetime) -> list[str]:
        missing = []
        if self.draining:
            missing.append("this sidecar is draining: it was told to end")
        if not self.listening:
            missing.append("the listeners do not stand yet")
        svid = self._mesh.svid
        if svid is None:
            missing.append("there is no certificate yet" + self._because())
        elif now >= svid.not_after:
            missing.append(f"the certificate ran out at {svid.not_after.isoformat()}" + self._because())
        if self._mesh.view is None:
            missing.append("there is no policy snapshot yet" + self._because())
        return missing

    def _because(self) -> str:
        return f": {self.link_problem}" if self.link_problem else ""
