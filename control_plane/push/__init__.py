"""The push server: the control plane's end of every sidecar's link.

    server        accept -> TLS -> who is it? -> a visit or a session; the wall, budgets and deadlines around it all
    handshake     TLS in time and with the right protocol; the operators' door of the admin API makes it too
    visit         Hello, and the few seconds of somebody who has no certificate yet
    session       one authenticated link: answers, pushes, keeps leases
    conversation  one stream as messages in and out
    ending        how a connection ends, and what it is told
    attest        CertificateRequest -> Certificate, by token or by the link's own certificate
    registry      Announce -> leases, once each address is shown to be the sidecar's own
    office        the parts that every link stands on
    board         the store's newest state in memory, read once for all links
    platform      what a cluster says of who is where, on top of what sidecars register; discovery finds it out
    views         PURE: the part of that state which concerns one sidecar
    links         who is connected, what was sent to whom and what each enforces

Data flows down: store -> board -> views -> link; and up: link -> attest or registry -> store -> board.
"""
