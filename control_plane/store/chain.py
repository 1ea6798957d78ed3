"""What an audit entry's hash covers, and what it tells. Pure."""

import hashlib
import json
from datetime import datetime
from typing import Any


def digest(seq: int, time: datetime, actor: str, event: str, detail: str, previous: str) -> str:
    """The hash of an entry: of every field, and of the hash before it."""
    content = json.dumps([seq, time.isoformat(timespec="microseconds"), actor, event, detail, previous])
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def told(detail: str) -> dict[str, Any]:
    """What an entry tells: nothing, where that is no JSON object, as only who tampers with one leaves it."""
    try:
        found = json.loads(detail)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
