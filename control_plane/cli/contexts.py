"""The contexts of this user: one private file each, in a private directory, and which of them is the current one.

    <directory>/<name>.toml     as control_plane.admin.context reads it
    <directory>/current         a name

The directory is DOORWARD_CONTEXTS, or `doorward/contexts` in XDG_CONFIG_HOME (~/.config). It is 0700 and its files are
0600; what is laxer is refused, since its keys may have been read already.
"""

import os
import re
from pathlib import Path
from typing import Final

from attrs import frozen

from control_plane import private_files
from control_plane.admin.errors import ContextRefused
from control_plane.private_files import FileRefused

SUFFIX: Final = ".toml"
_CURRENT: Final = "current"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}", re.ASCII)


@frozen
class Contexts:
    """The contexts in a directory, which need not exist yet. Every method raises ContextRefused."""

    directory: Path

    @classmethod
    def of_user(cls) -> "Contexts":
        """Those of whoever runs this."""
        if named := os.environ.get("DOORWARD_CONTEXTS"):
            return cls(Path(named))
        configuration = Path(os.environ.get("XDG_CONFIG_HOME", ""))
        if not configuration.is_absolute():  # the XDG specification: a relative one is ignored
            try:
                configuration = Path.home() / ".config"
            except RuntimeError as error:
                raise ContextRefused("this user has no home directory: name one by DOORWARD_CONTEXTS") from error
        return cls(configuration / "doorward" / "contexts")

    def names(self) -> list[str]:
        """Every context's name, in order."""
        if not self._exists():
            return []
        found = (each.name.removesuffix(SUFFIX) for each in self.directory.iterdir() if each.suffix == SUFFIX)
        return sorted(name for name in found if _NAME.fullmatch(name))

    def current(self) -> str | None:
        """The name of the context that is used where none is named."""
        content = self._read(_CURRENT)
        if content is None:
            return None
        return check_name(content.decode("utf-8", "replace").strip())

    def find(self, name: str) -> bytes | None:
        """A context's file; None where there is none."""
        return self._read(check_name(name) + SUFFIX)

    def read(self, name: str) -> bytes:
        """A context's file."""
        content = self.find(name)
        if content is None:
            known = ", ".join(self.names()) or "none yet: `doorward context add FILE`"
            raise ContextRefused(f"there is no context {name!r} in {self.directory}; there are: {known}")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Add or replace a context."""
        self._write(check_name(name) + SUFFIX, content)

    def use(self, name: str) -> None:
        """Make an existing context the current one."""
        self.read(name)
        self._write(_CURRENT, f"{name}\n".encode())

    def delete(self, name: str) -> None:
        """Remove a context with its key; where it was the current one, there is none then."""
        self.read(name)
        try:
            if self.current() == name:
                self.path(_CURRENT).unlink()
            self.path(name + SUFFIX).unlink()
        except OSError as error:
            raise ContextRefused(f"the context {name!r} cannot be removed: {error}") from error

    def path(self, file: str) -> Path:
        """Where a file of this directory is."""
        return self.directory / file

    def _exists(self) -> bool:
        """Whether there is a directory; it is refused where others may use it."""
        try:
            status = self.directory.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ContextRefused(f"{self.directory} cannot be used: {error}") from error
        try:
            private_files.check_private(self.directory, status, allowed=0o700)
        except FileRefused as error:
            raise ContextRefused(str(error)) from None
        return True

    def _read(self, file: str) -> bytes | None:
        if not self._exists():
            return None
        try:
            return private_files.read(self.path(file))
        except FileRefused as error:
            raise ContextRefused(str(error)) from None

    def _write(self, file: str, content: bytes) -> None:
        try:
            if not self._exists():
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            private_files.write(self.directory, file, content)
        except OSError as error:
            raise ContextRefused(f"{self.path(file)} cannot be written: {error}") from error


def check_name(name: str) -> str:
    """`name`, where a context may be called so."""
    if not _NAME.fullmatch(name):
        raise ContextRefused(
            f"{name[:80]!r} cannot be a context's name: write A-Z, a-z, 0-9, '.', '_', '@' and '-', at most 128"
        )
    return name
