"""Discovery: what the cluster's own objects say of who runs where becomes endpoints and services of the mesh.

    reading     values out of an API server's JSON: what is missing has a default, what is nonsense is refused
    objects     Pod, Service and EndpointSlice as small frozen values
    resolve     PURE: those values -> Platform, which sidecars are told, and the routes that explain it
    backends    PURE: who stands behind one port of a service, and whether he can be called
    ownership   PURE: which pod an address belongs to, and what that pod's ports speak
    shares      PURE: how much one namespace may have of what is sent to all
    routes      what operators are told: which places behind a service are called, and why others are not
    watch       keeps the objects by list and watch, resolves them anew after changes, and has the board show it

Data flows: API server -> control_plane.kubernetes.watching -> objects -> resolve -> push.platform -> push.board.

Users write Services and EndpointSlices, and may write nonsense or somebody else's addresses there. So an identity
always comes from the pod that owns an address, and pods' addresses from the kubelet; nothing else says who is where.
"""
