"""The admin API: what is asked of a running control plane, over a Unix socket that only its owner can open, or over TLS
with an operator's certificate.

The nouns, in the order in which a request meets them:

    unix_socket     the one listening Unix socket: 0600, never stolen from a living process (law 23)
    server          accepts, asks the kernel who calls (SO_PEERCRED), hands the stream to Hypercorn
    operators       the same for operators elsewhere: TLS, whose certificate it is, and whether that may ask now
    guard           ASGI: refuses what no client of ours sends (a browser's headers, a foreign Host, a large body)
    routes          HTTP in, JSON out; one function per question
    reading         bodies and parameters, read strictly
    backend         what the routes speak with: store, links, authority, advance, clock
    operator_issuing  certificates for operators
    policy_changes  documents read, planned, stored and announced, all or none
    revisions       the history of policies, as far as it is kept
    releasing       policies handed over to cluster objects, or taken over where there is no cluster any more
    injection       which pods are in the mesh as they should be
    services        where calls to the cluster's services lead
    enforcement     on how many of the sidecars concerned a policy is enforced
    health          the list that `doorward check` shows
    plain           records as the JSON that goes out
    problems        every refusal, as {"error", "message", "faults"}
    client, errors  the other end, for the CLI: httpx2 over the same socket; it does not import the server
    context         where an operator connects, what it pins and who it is, as one value and one file
    tls_door        the client's way over TLS: nothing is sent before the control plane has proved who it is
"""
