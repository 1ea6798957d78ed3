"""What a port speaks, by the name that it has in a pod, service or slice.

`http` and `http-…` speak HTTP. Names of protocols in which the server may speak first, or whose first bytes tell
nothing, are raw TCP: SERVER_FIRST. Any other port is `auto`: the sidecar looks at its first bytes.
"""

from typing import Final

SERVER_FIRST: Final = (
    "tcp",
    "amqp",
    "ftp",
    "imap",
    "ldap",
    "mariadb",
    "mongo",
    "mongodb",
    "mqtt",
    "mssql",
    "mysql",
    "nats",
    "pgsql",
    "pop3",
    "postgres",
    "postgresql",
    "redis",
    "smtp",
    "ssh",
    "vnc",
)
"""Names of ports, alone or followed by `-…`, that are raw TCP."""


def protocol_of_name(name: str) -> str:
    """What a port with that name speaks; "auto" where it says nothing."""
    first = name.partition("-")[0]
    if first == "http":
        return "http"
    return "tcp" if first in SERVER_FIRST else "auto"
