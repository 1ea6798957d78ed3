"""The control plane: it says who is who, who may call whom, and tells every sidecar. One process, one state directory.

    state           the state directory: private, locked, files written whole
    private_files   files that only their owner may read, checked and written whole
    store           everything durable: policies and revisions, tokens, issuances, leases, bans, the audit log
    authority       the root and the issuing intermediate; this program's own certificate
    push            the sidecars' links: attest, register, push snapshots, count what was acknowledged
    advance         the word that the store moved, from whoever moved it to everyone who shows it
    admin           the API for people, on a Unix socket and over TLS for operators; and the client for it
    cli             the `doorward` command, offline or by the admin API
    kubernetes      the Kubernetes API: requests, and the cluster's objects kept by list and watch
    discovery       pods, services and slices of the cluster -> endpoints and services of the mesh
    resources       policies as cluster objects: read, stored, and answered by their status
    cluster         how the cluster is reached, and every task that lives on it
    policies        policy files to documents, documents to changes, changes to a diff
    yaml_core       YAML that means the same to every parser, or is refused
    questions       "may this call pass?", answered by the function that enforces it
    injector        the webhook that puts sidecars into pods, and which pods have one
    housekeeping    what happens by itself: leases run out, certificates are replaced
    settings        what the program can be told
    opening         opens what all of it stands on: the store, the CA and the board
    program         opens all of the above in order, runs it in one nursery, closes it in reverse
    observe         /ready, /live and /metrics over plain HTTP
    web             what admin and observe have in common: HTTP with bounded connections
    tls_streams     the TLS streams beneath it, for operators and for API servers
    metrics, log    what is counted, and the program's own JSON lines

Data flows in at two doors and out at one. Policies: file -> policies -> cli -> admin -> store. Sidecars: link ->
push (attestation, registration) -> authority and store. Then advance wakes push, which makes each sidecar's snapshot
from the store and sends it; what comes back as acknowledged is what admin reports as enforced.

Start reading at `program`. The store and file calls block, so trio code makes them in threads.
"""
