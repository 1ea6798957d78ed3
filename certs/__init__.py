"""Identity, from a name to a verified TLS connection; pure: no I/O, and `now` comes in as an argument.

The nouns, in the order in which they appear in a workload's life:

    spiffe          TrustDomain, SpiffeId, WorkloadName: who somebody is
    keys, csr       a private key, and the request that proves possession of it
    profile         what a certificate of ours says, before it is signed
    authority       Authority: turns a public key and an ID into a chain of certificates
    svid            Svid: key and chain together, what a workload shows
    serving         ServingCertificate: the same for a DNS name, shown to programs that know no SPIFFE
    bundle          TrustBundle: the roots that are believed, each for its own trust domain
    certificate     one certificate, read strictly
    verify          Peer: a chain and a bundle in, one identity out
    tls             contexts before the handshake, questions after it
    errors          one class per reason to refuse

Data flows: new_key -> build_csr -> read_csr -> Authority.issue -> Svid.build -> server_context / client_context ->
handshake -> verified_peer -> Peer.

Import from the modules: this file imports nothing, since loading OpenSSL takes longer than `doorward policy check`.
"""
