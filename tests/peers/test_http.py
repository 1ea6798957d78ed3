"""Stock HTTP programs on both sides of a sidecar pair."""

import hashlib
import re
import sys

import pytest
import trio

from examples.demo.local_mesh import LocalMesh, Sidecar
from examples.demo.ports import free_port
from tests.support.patience import PATIENCE
from tests.support.policies import allow
from tests.support.stock import accepting, program, start_nginx


async def pair(mesh: LocalMesh, port: int) -> Sidecar:
    """A server's sidecar and its client's, with a policy between them. Returns the client's."""
    await mesh.start_sidecar("shop/web", inbound=[f"127.0.0.1:0=127.0.0.1:{port}/http,port=8080"])
    client = await mesh.start_sidecar("shop/browser", outbound=["127.0.0.1:0=shop/web:8080"])
    await allow(mesh, "browser", "web", 8080)
    return client


async def run(*command: str) -> str:
    return (await trio.run_process(list(command), capture_stdout=True, capture_stderr=True)).stdout.decode()


@pytest.mark.peers("curl", "nginx")
async def test_curl_reaches_nginx_and_a_large_file_arrives_intact(mesh: LocalMesh) -> None:
    curl, port = program("curl"), await start_nginx(mesh)
    client = await pair(mesh, port)
    page = await run(curl, "-sS", "--fail", f"{client.url('shop/web:8080')}/")
    assert page == "x" * 100
    large = mesh.directory / "received.bin"
    await run(curl, "-sS", "--fail", "-o", str(large), f"{client.url('shop/web:8080')}/large.bin")
    sent = (mesh.directory / "nginx" / "www" / "large.bin").read_bytes()
    assert hashlib.sha256(large.read_bytes()).digest() == hashlib.sha256(sent).digest()


@pytest.mark.peers("curl")
async def test_curl_reaches_pythons_http_server(mesh: LocalMesh) -> None:
    curl, port = program("curl"), free_port()
    (mesh.directory / "www").mkdir()
    (mesh.directory / "www" / "hello.txt").write_text("hello")
    serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(mesh.directory / "www")]
    mesh.start("http.server", [*serve, str(port)])
    await accepting(port)
    client = await pair(mesh, port)
    url = f"{client.url('shop/web:8080')}/hello.txt"
    assert await run(curl, "-sS", "--fail", url) == "hello"
    assert await run(curl, "-sS", "--fail", "--http1.0", url) == "hello"


@pytest.mark.peers("wrk", "nginx")
async def test_wrk_with_64_connections_for_ten_seconds_sees_no_error(mesh: LocalMesh) -> None:
    wrk, port = program("wrk"), await start_nginx(mesh)
    client = await pair(mesh, port)
    # Another test runs beside this one, maybe on one core, which may stand still: no error of the mesh, as wrk has it.
    report = await run(wrk, "-t2", "-c64", "-d10s", "--timeout", f"{PATIENCE:.0f}s", f"{client.url('shop/web:8080')}/")
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    assert int(re.search(r"(\d+) requests in", report)[1]) > 64, "every connection was served more than once"
