"""What attests in a CertificateRequest: a join token of ours, or a JSON Web Token that somebody else vouches for."""

import re
from typing import Final

_JWT: Final = re.compile(r"(?:[A-Za-z0-9_-]+\.){2}[A-Za-z0-9_-]+", re.ASCII)


def is_jwt(token: str) -> bool:
    """Whether a token has the form of a signed JWT (RFC 7515 §3.1), such as Kubernetes projects into pods.

    Says nothing of whether it is genuine. No join token has this form: there is no dot in one.
    """
    return _JWT.fullmatch(token) is not None
