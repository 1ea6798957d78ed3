"""What a request to the Kubernetes API can end in.

KubernetesError
    ApiUnreachable   no API server answers, or it stopped answering: the same may work later
    ApiRefused       it answered with a Status of failure
    ApiStrange       what came is nothing that a Kubernetes API says
      AnswerTooLarge   or more than is taken
"""

from typing import Any, Self

TEXT_CHARACTERS = 500


class KubernetesError(Exception):
    """A request that got no good answer."""


class ApiUnreachable(KubernetesError):
    """No answer: no connection, no TLS, no token to show, or no end of it in time."""


class ApiStrange(KubernetesError):
    """An answer or an event that cannot be read."""


class AnswerTooLarge(ApiStrange):
    """An answer that is larger than is taken: a list has shorter pages."""


class ApiRefused(KubernetesError):
    """The API server refused: `status` as in HTTP, `reason` in one word (Status.reason), `message` for people."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{reason or 'refused'} ({status}): {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @classmethod
    def read(cls, status: int, answer: Any) -> Self:
        """From a Status object (meta/v1), or from whatever came instead of one."""
        said = answer if isinstance(answer, dict) else {}
        return cls(
            status, str(said.get("reason", ""))[:TEXT_CHARACTERS], str(said.get("message", ""))[:TEXT_CHARACTERS]
        )
