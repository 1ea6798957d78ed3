"""Policies as cluster objects: AllowPolicy, DenyPolicy and NamespaceDefaults that live in the Kubernetes API.

    objects     ClusterObject: what is remembered of one, and which kinds there are
    reading     PURE: an object read as a policy document, or its faults
    planning    PURE: objects and stored documents -> what to put and what to delete, and whose turn it is
    syncing     PolicySync: does what the plan says, as one revision, whenever objects or policies have moved
    statuses    PURE: what an object's status has to say, in conditions and counts
    reporting   StatusReports: writes the statuses that differ, whenever something moved that they speak of
    tasks       all of it in one nursery

Data flows: Watched (control_plane.kubernetes) -> objects -> reading -> planning -> store; and store, and what sidecars
have acknowledged -> statuses -> the API server. A document belongs to whoever made it: what the command has applied
stays as it is, and its cluster object waits until `doorward policy release` (control_plane.admin.releasing).
"""
