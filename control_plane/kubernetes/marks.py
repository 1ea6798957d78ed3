"""By what the cluster's objects show that they belong to the mesh: a label, an annotation, names of containers."""

from typing import Final

PREFIX: Final = "doorward.dev/"
"""Of every label and annotation of ours."""
INJECT: Final = PREFIX + "inject"
"""The label of namespaces (enabled) and pods (disabled)."""
INJECTED: Final = PREFIX + "injected"
"""The annotation on a pod that has been injected: by which version."""
SIDECAR: Final = "doorward-sidecar"
REDIRECT: Final = "doorward-redirect"
