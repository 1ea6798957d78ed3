"""The admin API's paths: what each reads, which part of the control plane answers, and what JSON comes back.

Reading never changes anything; a change names its author by the caller, as the kernel or its certificate says, is
announced after it was stored, and is answered with what it did. The clients' side is `control_plane.admin.client`.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from certs.errors import SpiffeIdMalformed
from certs.spiffe import SpiffeId, WorkloadName
from control_plane import questions
from control_plane.admin import health, plain, services
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.enforcement import Fleet, Target, target_of
from control_plane.admin.injection import audited
from control_plane.admin.operator_issuing import create_operator, operators
from control_plane.admin.policy_changes import change_policies, stored_policy_set
from control_plane.admin.problems import Problem
from control_plane.admin.reading import query_int, read_body
from control_plane.admin.releasing import release_policy
from control_plane.admin.revisions import revisions
from control_plane.store.errors import AuditBroken, StoreError
from mesh.policy import PolicyFaults

MAX_TOKEN_LIFETIME = timedelta(days=7)
MAX_TOKEN_USES = 10_000

log = logging.getLogger("doorward.admin")

Handler = Callable[[Backend, Request], Awaitable[object]]


def application(backend: Backend) -> Starlette:
    """The ASGI application that answers for `backend`."""

    def route(path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(await handler(backend, request))
            except Problem as problem:
                return problem.response()
            except PolicyFaults as error:
                advice = "what is stored cannot be read: apply these policies anew, or delete them"
                return Problem(409, "stored_policies", advice, error.faults).response()
            except StoreError as error:
                return Problem(409, error.code, str(error)).response()
            except Exception:
                log.exception("%s %s failed", method, path)
                return Problem(500, "internal_error", "a fault of Doorward: the control plane's log has it").response()

        return Route(path, endpoint, methods=[method])

    return Starlette(
        routes=[route(path, method, handler) for path, method, handler in _ROUTES],
        exception_handlers={HTTPException: _no_such_route},
    )


async def _no_such_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Problem(
        error.status_code, "no_such_route", f"the admin API has no such path or method: {error.detail}"
    ).response()


def _author(request: Request) -> str:
    return request.state.caller.author  # type: ignore[no-any-return] # set by control_plane.admin.server and .operators


def _workload(text: str) -> WorkloadName:
    try:
        return WorkloadName.parse(text)
    except SpiffeIdMalformed as error:
        raise Problem(400, "bad_workload", str(error)) from error


async def _bundle(backend: Backend, _: Request) -> object:
    return plain.bundle(backend.authority.bundle, backend.trust_domain)


async def _create_token(backend: Backend, request: Request) -> object:
    body = await read_body(request)
    workload = _workload(body.get("workload", str))
    seconds = body.get("ttl", int, 600)
    uses = body.get("uses", int, 1)
    body.done()
    if not 0 < seconds <= MAX_TOKEN_LIFETIME.total_seconds():
        raise Problem(400, "bad_ttl", f"a token lives from one second to {MAX_TOKEN_LIFETIME.days} days")
    if not 1 <= uses <= MAX_TOKEN_USES:
        raise Problem(400, "bad_uses", f"a token has from 1 to {MAX_TOKEN_USES} uses")
    create = functools.partial(
        backend.store.create_token, workload, lifetime=timedelta(seconds=seconds), uses=uses, author=_author(request)
    )
    text, info = await in_thread(create)
    return {"token": text, **plain.token(info, str(workload.in_domain(backend.trust_domain)))}


async def _tokens(backend: Backend, _: Request) -> object:
    known = await in_thread(backend.store.tokens)
    return {
        "tokens": [
            plain.token(each, str(WorkloadName.parse(each.workload).in_domain(backend.trust_domain))) for each in known
        ]
    }


async def _revoke_token(backend: Backend, request: Request) -> object:
    token_id = request.query_params.get("id", "")
    if not await in_thread(functools.partial(backend.store.revoke_token, token_id, author=_author(request))):
        raise Problem(404, "no_such_token", f"there is no token {token_id[:80]!r}: see `doorward token list`")
    return {"revoked": token_id}


async def _policies(backend: Backend, _: Request) -> object:
    links = backend.links.status()

    def counted() -> list[dict[str, object]]:
        fleet = Fleet.of(links, backend.trust_domain, backend.store.epoch)
        stored = backend.store.policies()
        return [plain.policy(each, fleet.enforcement([target_of(each.document)], each.number)) for each in stored]

    return {"policies": await in_thread(counted)}


async def _change_policies(backend: Backend, request: Request) -> object:
    return await change_policies(backend, await read_body(request), _author(request))


async def _release_policy(backend: Backend, request: Request) -> object:
    return await release_policy(backend, await read_body(request), _author(request))


async def _enforcement(backend: Backend, request: Request) -> object:
    body = await read_body(request)
    number, names = body.get("number", int), body.get("targets", list)
    body.done()
    try:
        targets = [Target.parse(str(name)) for name in names]
    except SpiffeIdMalformed as error:
        raise Problem(400, "bad_target", str(error)) from error
    epoch = backend.store.epoch
    found = Fleet.of(backend.links.status(), backend.trust_domain, epoch).enforcement(targets, number)
    return {
        "number": number,
        "on": found.on,
        "of": found.of,
        "waiting": [plain.sidecar(each, number=number, epoch=epoch) for each in found.waiting],
    }


async def _decide(backend: Backend, request: Request) -> object:
    body = await read_body(request)
    caller, to = body.get("from", str), body.get("to", str)
    call, address = body.optional("request", str), body.optional("address", str)
    body.done()
    try:
        question = questions.Question.parse(caller, to, call, address, backend.trust_domain)
    except questions.QuestionMalformed as error:
        raise Problem(400, "bad_question", str(error)) from error

    def answer() -> dict[str, object]:
        policies, number = stored_policy_set(backend.store)
        bans = {ban.subject for ban in backend.store.bans()}
        return {**questions.answer(question, policies, backend.trust_domain, bans), "revision": number}

    return await in_thread(answer)


async def _sidecars(backend: Backend, _: Request) -> object:
    number = await in_thread(backend.store.policy_number)
    epoch = backend.store.epoch
    sidecars = [plain.sidecar(each, number=number, epoch=epoch) for each in backend.links.status()]
    return {"revision": number, "sidecars": sidecars}


async def _health(backend: Backend, _: Request) -> object:
    return {"checks": await health.checks(backend)}


async def _bans(backend: Backend, _: Request) -> object:
    return {"bans": [plain.ban(each) for each in await in_thread(backend.store.bans)]}


async def _ban(backend: Backend, request: Request) -> object:
    body = await read_body(request)
    subject, reason = _subject(backend, body.get("subject", str)), body.get("reason", str, "")
    body.done()
    ban = await in_thread(functools.partial(backend.store.ban, subject, reason=reason, author=_author(request)))
    backend.advance.announce()
    return plain.ban(ban)


async def _unban(backend: Backend, request: Request) -> object:
    subject = _subject(backend, request.query_params.get("subject", ""))
    if not await in_thread(functools.partial(backend.store.unban, subject, author=_author(request))):
        raise Problem(404, "no_such_ban", f"{subject[:200]} is not banned: see `doorward ban list`")
    backend.advance.announce()
    return {"lifted": subject}


def _subject(backend: Backend, text: str) -> str:
    """A ban's subject: `serial:<decimal>`, a SPIFFE ID, or a workload or `operator:<name>` of the own trust domain."""
    serial = text.removeprefix("serial:")
    if serial != text:
        if not (serial.isascii() and serial.isdigit() and len(serial) <= 49):  # 20 octets, RFC 5280 §4.1.2.2
            raise Problem(400, "bad_subject", "write a serial as serial:<decimal>")
        return f"serial:{int(serial)}"
    operator = text.removeprefix("operator:")
    try:
        if operator != text:
            return str(backend.trust_domain.operator(operator))
        if text.startswith("spiffe:"):
            return str(SpiffeId.parse(text))
        return str(WorkloadName.parse(text).in_domain(backend.trust_domain))
    except SpiffeIdMalformed as error:
        raise Problem(400, "bad_subject", f"{error}; or write serial:<decimal> or operator:<name>") from error


async def _audit(backend: Backend, request: Request) -> object:
    after = query_int(request, "after", 0, least=0, most=2**53)
    limit = query_int(request, "limit", 1000, least=1, most=10_000)
    entries = await in_thread(functools.partial(backend.store.audit, after, limit))
    return {"entries": [plain.audit_entry(each) for each in entries]}


async def _verify_audit(backend: Backend, _: Request) -> object:
    try:
        entries = await in_thread(backend.store.verify_audit)
    except AuditBroken as error:
        return {"intact": False, "entries": None, "pruned": None, "first_bad": error.seq, "message": str(error)}
    gone, message = (await in_thread(backend.store.pruned)).entries, "every entry is as it was written"
    message += f"; {gone} had no room any more" if gone else ""
    return {"intact": True, "entries": entries, "pruned": gone, "first_bad": None, "message": message}


_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("/v1/bundle", "GET", _bundle),
    ("/v1/tokens", "GET", _tokens),
    ("/v1/tokens", "POST", _create_token),
    ("/v1/tokens", "DELETE", _revoke_token),
    ("/v1/policies", "GET", _policies),
    ("/v1/policies", "POST", _change_policies),
    ("/v1/policies/release", "POST", _release_policy),
    ("/v1/revisions", "GET", revisions),
    ("/v1/enforcement", "POST", _enforcement),
    ("/v1/decisions", "POST", _decide),
    ("/v1/sidecars", "GET", _sidecars),
    ("/v1/health", "GET", _health),
    ("/v1/bans", "GET", _bans),
    ("/v1/bans", "POST", _ban),
    ("/v1/bans", "DELETE", _unban),
    ("/v1/injection", "GET", audited),
    ("/v1/services", "GET", services.listed),
    ("/v1/operators", "GET", operators),
    ("/v1/operators", "POST", create_operator),
    ("/v1/audit", "GET", _audit),
    ("/v1/audit/verification", "GET", _verify_audit),
)
