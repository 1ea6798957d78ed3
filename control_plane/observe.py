"""What a probe or a scraper may ask over plain HTTP: /live, /ready and /metrics, and nothing that is secret.

Connections are bounded, and a request under a foreign Host is refused: a web page that points its own name at this
address learns nothing (law 22).
"""

import ipaddress
from collections.abc import Callable, Sequence

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane.metrics import CONTENT_TYPE, Metrics
from control_plane.web import Web

PATIENCE = 10.0  # seconds for a request, and between two on one connection


async def serve_observe(
    listeners: Sequence[trio.SocketListener],
    metrics: Metrics,
    unready: Callable[[], str],
    *,
    hosts: Sequence[str] = (),
    max_connections: int,
) -> None:
    """Answer on `listeners` until cancelled. `unready` says why this is not ready, "" where it is.

    `hosts` are names under which it may be asked, besides IP addresses and localhost.
    """
    app = refuse_foreign_host(application(metrics, unready), hosts)
    await Web("observe", app, metrics, max_connections, PATIENCE).serve(listeners)


def application(metrics: Metrics, unready: Callable[[], str]) -> Starlette:
    """The three answers."""

    async def live(_: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(_: Request) -> Response:
        reason = unready()
        return JSONResponse({"ready": not reason, "reason": reason}, status_code=503 if reason else 200)

    async def scrape(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", scrape)])


def refuse_foreign_host(app: ASGIApp, hosts: Sequence[str]) -> ASGIApp:
    """`app` for requests with one Host that is an IP address, localhost or one of `hosts`; 421 for all others."""
    known = {"localhost", *(host.lower() for host in hosts)}

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1 or not _is_own(named[0], known):
                refusal = {"error": "foreign_host", "message": "ask by IP address, or name this host in observe_hosts"}
                await JSONResponse(refusal, status_code=421)(scope, receive, send)
                return
        await app(scope, receive, send)

    return checked


def _is_own(host: str, known: set[str]) -> bool:
    bracket, closing, rest = host.partition("]")
    name = bracket.removeprefix("[") if closing else host.partition(":")[0]
    if closing and rest and not rest.startswith(":"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower().removesuffix(".") in known
    return True
