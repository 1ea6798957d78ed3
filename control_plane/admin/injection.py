"""Which pods are in the mesh as they should be: asked of the API server and compared with the sidecars' links."""

import re
from importlib.metadata import version

from attrs import asdict
from starlette.requests import Request

from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.problems import Problem
from control_plane.injector.audit import Mesh, audit
from control_plane.injector.injection import Injection
from control_plane.injector.listing import list_namespaces, list_pods
from control_plane.injector.standing import SYSTEM_NAMESPACES
from control_plane.kubernetes.errors import ApiRefused, KubernetesError

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


async def audited(backend: Backend, request: Request) -> object:
    """Every pod that is or should be in the mesh; of one namespace with the parameter `namespace`."""
    injection, namespace = backend.injection, request.query_params.get("namespace")
    if injection is None:
        raise Problem(409, "no_cluster", "this control plane runs outside of a cluster: start it with --kubernetes")
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise Problem(400, "bad_namespace", f"{namespace[:80]!r} is no name of a namespace")
    try:
        namespaces = await list_namespaces(injection.api, namespace)
        pods = await list_pods(injection.api, namespace)
    except ApiRefused as error:
        if error.status == 404:
            raise Problem(404, "no_such_namespace", f"there is no namespace {namespace}") from error
        raise Problem(502, "cluster_refused", f"the API server refused: {error}") from error
    except KubernetesError as error:
        raise Problem(503, "cluster_away", f"the API server cannot be asked: {error}") from error
    mesh = _mesh(backend, injection)
    found = await in_thread(lambda: [asdict(each) for each in audit(namespaces, pods, mesh)])
    return {"version": mesh.version, "pods": found}


def _mesh(backend: Backend, injection: Injection) -> Mesh:
    connected = {(link.identity, link.address) for link in backend.links.status()}
    registered = injection.registration.excluded if injection.registration else frozenset()
    excluded = {*SYSTEM_NAMESPACES, injection.namespace, *registered}
    return Mesh(backend.trust_domain, version("doorward"), connected, excluded)
