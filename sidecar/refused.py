"""Why one connection or request goes no further: a reason code for machines, a sentence for people.

Refused                 before a policy was asked, or because our own side is not ready
    NotReady            no snapshot, or no certificate that is good now (sidecar.view raises it)
    UpstreamFailed      it was let through and failed on the way
"""

from mesh.policy.reasons import Reason


class Refused(Exception):
    """This connection ends here. `detail` names no more than addresses and identities, never payload."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class NotReady(Refused):
    """No traffic can flow now: NO_SNAPSHOT, NO_OWN_CERTIFICATE or OWN_CERTIFICATE_EXPIRED."""


class UpstreamFailed(Refused):
    """Nobody was reached who could answer, or the one reached is not the one wanted."""
