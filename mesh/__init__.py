"""The language that both programs share. Pure: no sockets, no clock, no files.

    mesh.policy     what a policy says, and `decide`, which answers whether a call is allowed and why
    mesh.wire       what sidecar and control plane say to each other

Data flows: a policy document is checked by `mesh.policy` in the control plane, travels in a `mesh.wire.Snapshot` to
the sidecars that it concerns, is read and compiled there by the same code, and decides each call.
"""
