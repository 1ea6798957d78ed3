"""What stands before the routes: requests that no client of ours makes are refused unread.

A browser cannot open a Unix socket, but things that proxy one exist, and then every web page could ask it. So a request
needs one Host that is ours, none of the headers that only browsers send, JSON wherever it changes something, and a
body within bounds.
"""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane.admin.problems import Problem

HOSTS = frozenset({"localhost", "doorward"})
"""The names under which the API may be asked; `curl --unix-socket S http://localhost/…` is one of them."""

_BROWSER_HEADERS = ("origin", "referer", "sec-fetch-site", "sec-fetch-mode", "cookie")


def guarded(application: ASGIApp) -> ASGIApp:
    """`application` behind the checks of this file."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        try:
            _check(Request(scope))
            await application(scope, receive, send)
        except Problem as problem:
            await problem.response()(scope, receive, send)

    return app


def _check(request: Request) -> None:
    """Raises Problem for what only a browser or a stranger would send."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or hosts[0].partition(":")[0].lower() not in HOSTS:
        raise Problem(421, "foreign_host", "the admin API answers to the host localhost only")
    if any(name in request.headers for name in _BROWSER_HEADERS):
        raise Problem(403, "browser_refused", "the admin API is not for browsers: use the doorward command")
    if request.method in {"GET", "HEAD"}:
        return
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "not_json", "send the header content-type: application/json")
