"""The proxy beside one workload: one trio process that proves who it is, and lets in whom policy allows.

Read inbound.py after this page, and you know the proxy.

What it is told
    settings        Settings, Inbound, Outbound, Limits: frozen values
    parsing         one setting's text -> its value; table: every setting's row; loading: flags, environment, TOML
    probe_list      the setting `probes`: JSON -> Probe values
    cli             the command line
    redirection/    its subcommand `redirect`: the iptables rules that send a pod's TCP here

Who it is, and what it knows: the control link
    channel         ControlPlane.connect(): dial, TLS, identity -> Channel, which carries whole messages
    enrolment       Tokens and keys: a request for a certificate, and the judgement of its answer
    identity        which certificate to show, and when and how to ask for the next
    session         announce, enforce every snapshot, acknowledge, stay alive, renew
    link            session after session, with backoff; what was known stays in force in between
    snapshots       Snapshot -> View, swapped whole; live connections decided again; then Ack, or Nack
    view            View: one snapshot compiled; Mesh: the current View and SVID, and TLS contexts from both

How bytes go
    proxy           Proxy: the bag that every connection is handed
    accepting       listeners -> one task per connection, one record each
    inbound         mTLS -> identity -> protocol -> decide -> application
    outbound        application -> endpoint -> mTLS, its identity verified; balance chooses, upstream dials
    transparent     the same two for redirected connections: what the caller dialled says where they go
    destination     what the application wants to reach: a workload, a service, or something outside the mesh
    protocol        http or tcp, by the first bytes, where it was not declared
    relay           both ways, bounded, half-close and truncation carried through
    http/           the same per request: strict reading, decisions, pools, writing anew
    live            LiveConnections: what is open, so that a new snapshot reaches it
    refused         why one connection goes no further

What it says
    access_log      Record: one JSON line per request or connection, on standard output
    log             the process log, JSON lines on standard error
    metrics         what is counted, as /metrics shows it
    readiness       whether it is ready, and if not why
    doors           the addresses that were really bound
    config_page     what /config shows; observe serves it beside /ready, /live and /metrics
    probes          Prober: the kubelet's probes of the application, performed for it at /probe/<name>

program puts all of it together, and drains it at the end.

Data flows: settings -> program -> link -> (certificate, View) -> Mesh; accept -> TLS -> identity -> protocol -> decide
-> upstream -> relay -> Record.
"""
