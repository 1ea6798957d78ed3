"""The CAs by which the API server is known, as their file has them now: a rotation replaces it while we run.

The kubelet writes all of a projected volume anew with every token, mostly with the same CAs in it.
"""

import logging
import ssl
from pathlib import Path
from typing import Self

from attrs import define

from control_plane.log import fields

log = logging.getLogger("doorward.kubernetes")


@define(eq=False)
class CaFile:
    """The file and what was last good in it. Make it by `CaFile.open`. Looking at it blocks, for microseconds."""

    path: Path
    _content: bytes
    _context: ssl.SSLContext
    _seen: tuple[int, ...] | None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises OSError (ssl.SSLError among them) where it cannot be used."""
        seen = _version(path)
        return cls(path, path.read_bytes(), _trusting(path), seen)

    def current(self) -> ssl.SSLContext:
        """What verifies the API server: another context once the file has other CAs. A broken file changes nothing."""
        seen = _version(self.path)
        if seen != self._seen:
            self._seen = seen
            try:
                content = self.path.read_bytes()
                if content != self._content:
                    self._content, self._context = content, _trusting(self.path)
                    log.info("the API server's CAs have changed", extra=fields(file=str(self.path)))
            except OSError as error:
                log.warning(
                    "the file with the API server's CAs cannot be used: those that it had stay trusted",
                    extra=fields(file=str(self.path), reason=error.strerror or str(error)),
                )
        return self._context


def _version(path: Path) -> tuple[int, ...] | None:
    """What differs after a write; None where there is no file to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _trusting(path: Path) -> ssl.SSLContext:
    """Trusts the CAs of the file, and nothing else. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    # Python 3.13 would refuse the CAs of many clusters, which lack an authority key identifier.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
