"""The two containers and two volumes that put a pod into the mesh, as Kubernetes' plain data.

The sidecar passes Pod Security "restricted". The init container that redirects has to be root with NET_ADMIN, and
nothing more: iptables of the image writes by nf_tables, which needs no NET_RAW and no lock file.
"""

from typing import Any, Final

from control_plane.injector.settings import InjectorSettings
from control_plane.injector.wanted import Wanted
from control_plane.kubernetes.marks import REDIRECT, SIDECAR

TOKEN: Final = "doorward-token"  # noqa: S105  # a volume's name
TRUST_BUNDLE: Final = "doorward-trust-bundle"

CONTAINERS: Final = (SIDECAR, REDIRECT)
VOLUMES: Final = (TOKEN, TRUST_BUNDLE)

TOKEN_DIRECTORY: Final = "/var/run/secrets/doorward"  # noqa: S105  # a path
BUNDLE_DIRECTORY: Final = "/var/run/doorward/trust-bundle"

# Files in a projected volume belong to root, where containers run as different users, and the sidecar's user is
# neither that nor in its group. Only our container mounts it. With fsGroup the kubelet makes 0640 of the token, and
# the group is everyone's in the pod (k8s.io/kubernetes/pkg/volume/projected).
_READ_ONLY: Final = 0o444


def sidecar(
    settings: InjectorSettings, wanted: Wanted, ports: tuple[str, ...], probes: str, *, native: bool
) -> dict[str, Any]:
    """The sidecar's container. `ports` are PORT/PROTOCOL of the application, `probes` is DOORWARD_PROBES."""
    return {
        "name": SIDECAR,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        **({"restartPolicy": "Always"} if native else {}),
        "command": ["doorward-sidecar", "run"],
        "env": _environment(settings, wanted, ports, probes),
        "resources": wanted.resources.as_field(),
        # The application waits until the sidecar has its identity and first snapshot.
        "startupProbe": _probe(settings, "/ready", period=1, failures=300),
        "readinessProbe": _probe(settings, "/ready", period=5, failures=3),
        "livenessProbe": _probe(settings, "/live", period=10, failures=3),
        "securityContext": {
            "runAsUser": settings.sidecar_uid,
            "runAsGroup": settings.sidecar_uid,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": TOKEN, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
            {"name": TRUST_BUNDLE, "mountPath": BUNDLE_DIRECTORY, "readOnly": True},
        ],
    }


def redirect(settings: InjectorSettings, wanted: Wanted) -> dict[str, Any]:
    """The init container that sends the pod's TCP through the sidecar."""
    ports = settings.ports
    excluded = {
        "exclude-inbound-ports": (str(ports.observe), *wanted.exclude_inbound_ports),
        "exclude-outbound-ports": wanted.exclude_outbound_ports,
        "exclude-outbound-addresses": wanted.exclude_outbound_addresses,
    }
    return {
        "name": REDIRECT,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [
            "doorward-sidecar",
            "redirect",
            "--install",
            f"--inbound-port={ports.inbound}",
            f"--outbound-port={ports.outbound}",
            f"--sidecar-uid={settings.sidecar_uid}",
            *(f"--{flag}={','.join(values)}" for flag, values in excluded.items() if values),
        ],
        "resources": settings.resources.redirect.as_field(),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def volumes(settings: InjectorSettings) -> list[dict[str, Any]]:
    """The service account's token for the control plane, and the trust bundle by which the sidecar knows that."""
    token = {
        "audience": settings.token_audience,
        "expirationSeconds": settings.token_expiration_seconds,
        "path": "token",
    }
    return [
        {"name": TOKEN, "projected": {"defaultMode": _READ_ONLY, "sources": [{"serviceAccountToken": token}]}},
        {
            "name": TRUST_BUNDLE,
            "configMap": {
                "name": settings.trust_bundle,
                "defaultMode": _READ_ONLY,
                "items": [{"key": "bundle.pem", "path": "bundle.pem"}],
            },
        },
    ]


def _environment(
    settings: InjectorSettings, wanted: Wanted, ports: tuple[str, ...], probes: str
) -> list[dict[str, Any]]:
    """The sidecar's settings. What is empty is left out."""
    values = {
        "WORKLOAD": "$(DOORWARD_POD_NAMESPACE)/$(DOORWARD_POD_SERVICE_ACCOUNT)",
        "CONTROL_PLANE": settings.control_plane,
        "TRUST_DOMAIN": settings.trust_domain,
        "BUNDLE": f"{BUNDLE_DIRECTORY}/bundle.pem",
        "TOKEN_FILE": f"{TOKEN_DIRECTORY}/token",
        **(_transparent(settings, wanted, ports) if wanted.redirect else {}),
        "INBOUND": " ".join(wanted.inbound),
        # A socket's path may hold a dollar sign, and Kubernetes takes $(X) for a variable.
        "OUTBOUND": " ".join(wanted.outbound).replace("$", "$$"),
        "OBSERVE": f"*:{settings.ports.observe}",
        "PROBES": probes,
        "LOG_LEVEL": wanted.log_level,
        "REQUEST_LOG": wanted.request_log,
        "DRAIN_TIMEOUT": f"{wanted.drain_seconds}s",
    }
    return [
        _from_pod("DOORWARD_POD_NAMESPACE", "metadata.namespace"),
        _from_pod("DOORWARD_POD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        *({"name": f"DOORWARD_{name}", "value": value} for name, value in values.items() if value),
    ]


def _transparent(settings: InjectorSettings, wanted: Wanted, ports: tuple[str, ...]) -> dict[str, str]:
    return {
        "TRANSPARENT": "true",
        "TRANSPARENT_INBOUND_PORT": str(settings.ports.inbound),
        "TRANSPARENT_OUTBOUND_PORT": str(settings.ports.outbound),
        "PORTS": ",".join(ports),
        "MESH_CIDRS": ",".join(settings.mesh_cidrs),
        "EGRESS": wanted.egress,
    }


def _from_pod(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(settings: InjectorSettings, path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": settings.ports.observe},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
