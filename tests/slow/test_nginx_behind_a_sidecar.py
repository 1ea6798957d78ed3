"""nginx, which reads HTTP its own way, behind both doors: it counts the requests that were decided, and no other."""

from contextlib import suppress
from pathlib import Path

import trio

from examples.demo.local_mesh import LocalMesh, wait_for
from examples.demo.ports import free_port
from tests.support.applications import connect
from tests.support.patience import PATIENCE
from tests.support.policies import allow
from tests.support.smuggling import BODIES
from tests.support.stock import accepting, program
from tests.support.strange_heads import HEADS

NGINX = """
daemon off;
user root;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    log_format seen '$status $request_method $request_uri';
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    large_client_header_buffers 4 64k;
    underscores_in_headers on;
    server {{
        listen 127.0.0.1:{port};
        access_log {directory}/seen.log seen;
        location / {{ proxy_pass http://unix:{directory}/behind; }}
    }}
    server {{
        listen unix:{directory}/behind;
        access_log off;
        location / {{ return 200; }}
    }}
}}
"""


async def start(mesh: LocalMesh) -> tuple[int, Path]:
    """nginx that reads every request to its end and answers 200. Returns its port, and where it says what it saw."""
    nginx, directory, port = program("nginx"), mesh.directory / "nginx", free_port()
    directory.mkdir()
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=port))
    mesh.start("nginx", [nginx, "-p", str(directory), "-c", str(directory / "nginx.conf")])
    await accepting(port)
    return port, directory / "seen.log"


async def ask(address: str, request: bytes) -> None:
    """Send the bytes and an end, and hear everything."""
    with trio.fail_after(PATIENCE):
        async with await connect(address) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(request)
                await stream.send_eof()
                async for _ in stream:
                    pass


async def test_nginx_sees_exactly_the_requests_that_were_decided(mesh: LocalMesh) -> None:
    port, log = await start(mesh)
    payments = await mesh.start_sidecar("shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{port}/http,port=8080"])
    checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
    await allow(mesh, "checkout", "payments", 8080)
    expected: list[str] = []
    for attempt in (*BODIES, *HEADS):
        if b"TRACE" in attempt.raw or attempt.raw.count(b"\r\nExpect:") > 1:
            continue  # nginx itself refuses these
        expected += [f"{each.method} {each.target}" for each in attempt.reaches]
        await ask(checkout.outbound["shop/payments:8080"], attempt.raw)

    def seen() -> list[str]:
        return [line.removeprefix("200 ") for line in log.read_text().splitlines() if line.startswith("200 ")]

    def decided() -> list[str]:
        answered = [each for each in payments.records() if each["allowed"] and each.get("status") == 200]
        return [f"{each['method']} {each['path']}" for each in answered]

    await wait_for(lambda: min(len(seen()), len(decided())) >= len(expected), what="both logs")
    assert seen() == expected
    assert decided() == [each.partition("?")[0] for each in expected]
