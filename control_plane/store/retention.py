"""How much of the past the store keeps. Pure: what the settings say, as the store takes it."""

from datetime import timedelta
from typing import Final

from attrs import frozen

MIB: Final = 1024 * 1024


@frozen
class Retention:
    """What is kept of the history of policies and of the audit log. What is in force is always kept."""

    versions: int = 100
    """Of one policy document: its newest versions."""
    age: timedelta = timedelta(days=30)
    """No version younger than this goes, nor the newest ones of a document removed since, where there is room."""
    history_bytes: int = 128 * MIB
    """Room for all versions that are not in force; where it is full, the namespace that holds most gives way."""
    audit_bytes: int = 256 * MIB
    """Room for the audit log; where it is full, the oldest entries of the namespace that holds most give way."""


DEFAULT: Final = Retention()
"""What the settings say where nobody has said anything."""
