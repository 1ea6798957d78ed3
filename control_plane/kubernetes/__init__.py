"""The control plane as a client of the Kubernetes API. Nothing here decides: it asks, watches and keeps objects.

    api             KubernetesApi: requests over TLS with a bearer token, bounded in time, number and size
    transmission    the HTTP below it: pools of connections, and its errors translated
    ca_file         by which CAs it is known, as their file has them now
    parsing         its JSON, however deep
    contact         whether the API server is there, said and counted once for all who ask it
    errors          what a request can end in
    token_review    which pod a service-account token speaks for
    ca_secret       the CA in a Secret, made where it is missing
    trust_bundles   the trust bundle as a ConfigMap in every namespace of the mesh
    pages           a list, page by page
    marks           by what the cluster's objects show that they belong to the mesh
    port_names      what a port speaks, by its name
    watching        Watched: one kind of object as it is now, by list and watch

Data flows: watching -> api -> the API server, and its events back into `Watched.objects`, which others read.
"""
