"""Injection as a part of the running program: by its settings, under its CA, with or without an API server."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.injector.injection import dns_names
from control_plane.program import CannotStart, Running, serve
from control_plane.settings import ControlPlaneSettings, HostPort, KubernetesSettings
from tests.support.pki import Pki
from tests.support.webhooks import Caller, admission_review

ANY = HostPort("127.0.0.1", 0)
NOWHERE = "https://127.0.0.1:9"


@pytest.fixture
def settings(tmp_path: Path, short_directory: Path) -> ControlPlaneSettings:
    """With an injector, in a cluster whose API server is away."""
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("token")
    ca.write_bytes(Pki().root.certificate.public_bytes(Encoding.PEM))
    kubernetes = KubernetesSettings(NOWHERE, token, ca, injector_listen=ANY, namespace="mesh")
    return ControlPlaneSettings(state=short_directory / "state", listen=ANY, observe=None, kubernetes=kubernetes)


def with_config(settings: ControlPlaneSettings, directory: Path, text: str) -> ControlPlaneSettings:
    file = directory / "injector.yaml"
    file.write_text(text)
    return evolve(settings, kubernetes=evolve(settings.kubernetes, injector_config=file))


@asynccontextmanager
async def running(settings: ControlPlaneSettings) -> AsyncIterator[Running]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve, settings)
        nursery.cancel_scope.cancel()


async def asked(settings: ControlPlaneSettings, places: Running, name: str, **request: Any) -> dict[str, Any]:
    """The response to a review, by a webhook that proves to be `name`."""
    assert places.injector_listen is not None
    host, _, port = places.injector_listen.rpartition(":")
    context = ssl.create_default_context(cafile=str(settings.state / "root.pem"))
    context.set_alpn_protocols(["http/1.1"])
    plain = await trio.open_tcp_stream(host, int(port))
    async with trio.SSLStream(plain, context, server_hostname=name, https_compatible=True) as stream:
        status, body = await Caller(stream).ask(admission_review(**request))
    assert status == 200
    response: dict[str, Any] = json.loads(body)["response"]
    return response


def created(**spec: Any) -> dict[str, Any]:
    """An AdmissionReview's request for a pod."""
    containers = [{"name": "app", "image": "app", "ports": [{"containerPort": 8080, "name": "http"}]}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "checkout-"},
        "spec": {"containers": containers, **spec},
    }
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    return {"kind": kind, "resource": resource, "object": pod}


async def test_without_an_api_server_pods_are_injected_all_the_same(
    settings: ControlPlaneSettings, tmp_path: Path
) -> None:
    settings = with_config(settings, tmp_path, "image: registry.example/sidecar:1\n")
    async with running(settings) as places:
        assert json.loads((settings.state / "run.json").read_text())["injector_listen"] == places.injector_listen
        response = await asked(settings, places, "doorward-injector.mesh.svc", **created())
    assert response["allowed"], response
    assert "patch" in response


async def test_the_name_in_its_certificate_can_be_given(settings: ControlPlaneSettings) -> None:
    kubernetes = evolve(settings.kubernetes, injector_service="inject.mesh.svc.example.org")
    settings = evolve(settings, kubernetes=kubernetes)
    async with running(settings) as places:
        for name in ("inject.mesh.svc", "inject.mesh.svc.example.org"):
            assert (await asked(settings, places, name, **created(hostNetwork=True)))["allowed"]


async def test_without_an_address_there_is_no_webhook(settings: ControlPlaneSettings) -> None:
    kubernetes = evolve(settings.kubernetes, injector_listen=None)
    async with running(evolve(settings, kubernetes=kubernetes)) as places:
        assert places.injector_listen is None


async def test_a_file_that_cannot_be_used_ends_the_start_with_its_faults(
    settings: ControlPlaneSettings, tmp_path: Path
) -> None:
    with pytest.raises(CannotStart, match="sidecarUid"):
        await serve(with_config(settings, tmp_path, "sidecarUid: root\n"))


@pytest.mark.parametrize(
    ("service", "names"),
    [
        ("doorward-injector.doorward.svc", ("doorward-injector.doorward.svc",)),
        ("i.doorward.svc.example.org", ("i.doorward.svc", "i.doorward.svc.example.org")),
        ("injector.example.org", ("injector.example.org",)),
    ],
)
def test_the_certificate_bears_the_name_by_which_api_servers_call(service: str, names: tuple[str, ...]) -> None:
    assert dns_names(service) == names
