"""What a question to the admin API can end in, for its clients. Apart from the client, so that naming it costs nothing.

AdminError
    ServerAway      no control plane answers
    AdminRefused    it answered, and refused
"""

from collections.abc import Sequence


class AdminError(Exception):
    """A question that got no good answer."""


class ServerAway(AdminError):
    """No control plane answers on the socket, or it stopped answering."""


class AdminRefused(AdminError):
    """The control plane refused. `error` is its short name, `faults` what is wrong with a policy file."""

    def __init__(self, error: str, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error = error
        self.faults = tuple(faults)
