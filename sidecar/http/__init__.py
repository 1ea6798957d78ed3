"""HTTP/1.1 through the sidecar: every request is read, judged, decided, written anew and recorded.

Pure, in the order in which a message passes:
    refusals    the law about heads; blocks finds where a head ends; bodies takes content by its framing
    reading     RequestReader, ResponseReader: bytes -> RequestHead | ResponseHead, content, End
    heads       those two as values, and Request: what goes upstream instead of what the client said
    targets     the canonical target and the host that a request asks for
    headers     which fields pass, and which are ours to set
    writing     heads and bodies -> bytes, always anew
    failures    every way in which an exchange ends early; answers makes our own responses from them

With I/O:
    client      Client: the connection of the one who calls, read message by message
    pool        Pooled: a connection to the one who answers; Pool keeps idle ones
    exchange    Exchange: one request up and its response down, both at once
    serving     the requests of one connection, one after the other: record, live registration, answers
    inbound     serve_http_inbound: identity from TLS, decide per request, to the application
    outbound    serve_http_outbound: to an endpoint of the mesh whose identity is verified
"""
