"""What an audit entry's hash covers. Pure."""

import hashlib
import json
from datetime import datetime


def digest(seq: int, time: datetime, actor: str, event: str, detail: str, previous: str) -> str:
    """The hash of an entry: of every field, and of the hash before it."""
    content = json.dumps([seq, time.isoformat(timespec="microseconds"), actor, event, detail, previous])
    return hashlib.sha256(content.encode("ascii")).hexdigest()
