"""What /config shows: who this sidecar is and what it enforces now, for a person or a test. Nothing secret is in it."""

from typing import Any

import attrs

from certs.bundle import root_fingerprint
from certs.svid import Svid
from mesh.policy import to_document
from mesh.wire import Service
from sidecar.doors import Doors
from sidecar.link import ControlLink
from sidecar.readiness import Readiness
from sidecar.settings import Settings
from sidecar.view import Mesh, View


def describe(
    settings: Settings,
    mesh: Mesh,
    doors: Doors,
    link: ControlLink,
    readiness: Readiness,
    *,
    instance: str,
    version: str,
) -> dict[str, Any]:
    """The page as plain data."""
    return {
        "identity": str(mesh.own),
        "instance": instance,
        "version": version,
        "certificate": _certificate(mesh.svid) if mesh.svid else None,
        "snapshot": _snapshot(mesh.view, mesh) if mesh.view else None,
        "listeners": doors.addresses(),
        "control_plane": {
            "address": str(settings.control_plane),
            "connected": link.up,
            "problem": readiness.link_problem,
        },
        "probes": [probe.name for probe in settings.probes],
        "egress": settings.egress,
        "mesh_cidrs": [str(network) for network in settings.mesh_cidrs],
        "request_log": settings.request_log,
        "limits": attrs.asdict(settings.limits),
    }


def _service(service: Service) -> dict[str, Any]:
    """One virtual address; `backends` counts: where they are and who they are is said by the endpoints."""
    return {**attrs.asdict(service), "backends": len(service.backends)}


def _certificate(svid: Svid) -> dict[str, Any]:
    return {
        "serial": str(svid.serial),  # 159 bits: more than a JSON number holds everywhere
        "not_before": svid.not_before.isoformat(),
        "not_after": svid.not_after.isoformat(),
    }


def _snapshot(view: View, mesh: Mesh) -> dict[str, Any]:
    governing = view.rules.concerning(mesh.workload)
    documents = [to_document(defaults) for defaults in governing.defaults]
    return {
        "epoch": view.epoch,
        "number": view.number,
        "hash": view.hash,
        "policies": documents + [to_document(policy) for policy in governing.policies],
        "endpoints": [attrs.asdict(endpoint) for each in view.endpoints.values() for endpoint in each],
        "services": [_service(each) for each in view.services],
        "bans": sorted(view.bans),
        "roots": [
            {"trust_domain": str(domain), "sha256": root_fingerprint(root)}
            for domain in view.bundle.trust_domains
            for root in view.bundle.roots_of(domain.name)
        ],
    }
