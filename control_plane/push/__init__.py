"""The push server: the control plane's end of every sidecar's link.

    server      accept -> TLS -> who is it? -> Link or anonymous; walls, budgets and deadlines around all of it
    conversation  one link's stream as messages in and out
    attest      CertificateRequest -> Certificate, by token or by the link's own certificate
    registry    Announce -> leases, once each address is shown to be the sidecar's own
    board       the store's newest state in memory, read once for all links
    views       PURE: the part of that state which concerns one sidecar
    links       who is connected, what was sent to whom and what each enforces

Data flows down: store -> board -> views -> link; and up: link -> attest or registry -> store -> board.
"""
