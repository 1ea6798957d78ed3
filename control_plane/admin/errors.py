"""What a question to the admin API can end in, for its clients. Apart from the client, so that naming it costs nothing.

AdminError
    ServerAway      no control plane answers
    AdminRefused    it answered, and refused
    NotTheServer    something answers that has not proved to be the control plane: it was told nothing
    ContextRefused  the context with which to ask cannot be used
"""

from collections.abc import Sequence


class AdminError(Exception):
    """A question that got no good answer."""


class ServerAway(AdminError):
    """No control plane answers there, or it stopped answering."""


class NotTheServer(AdminError):
    """What answers is not the control plane that the context pins. Nothing was sent to it."""


class ContextRefused(AdminError):
    """A context is missing, malformed, open to others, or its certificate has ended. The message says what to do."""


class AdminRefused(AdminError):
    """The control plane refused. `error` is its short name, `faults` what is wrong with a policy file."""

    def __init__(self, error: str, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error = error
        self.faults = tuple(faults)
