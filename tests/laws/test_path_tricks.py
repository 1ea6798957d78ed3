"""Law 14 against a corpus of tricks: no spelling of a forbidden path reaches the application."""

import re
from typing import Any

import pytest

from mesh.policy import Decision, Facts, HttpFacts, PathRefused, canonical_target, decide
from sidecar.http.failures import HttpRefused
from sidecar.http.refusals import check_request_head
from tests.laws.conftest import Shop, eventually, policy
from tests.support.doors import Node
from tests.support.path_tricks import FORBIDDEN, INNOCENT, SPELLINGS, naive_readings
from tests.support.pki import Pki
from tests.support.recording import Recording

PORT = 8080
ALLOWS = {
    "/open": r"/open",
    "/open/{name}": r"/open/[^/]+",
    "/open/*": r"/open/.*",
}
DENIES = ("/admin/keys", "/admin/{name}", "/admin/*", "/{any}/keys")


def decided(pki: Pki, *policies: dict[str, Any]) -> dict[str, tuple[str, Decision]]:
    """Of each spelling that is a request: what an application would be asked for, and what policy says to it."""
    rules = Node.make(pki, "shop/payments", policies=policies).proxy.mesh.current()[0].rules
    found = {}
    for spelling in (*SPELLINGS, *INNOCENT):
        try:
            check_request_head(f"GET {spelling} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
            target = canonical_target(re.sub("(?i)^http://[^/?#]*", "", spelling) or "/")
        except (PathRefused, HttpRefused):
            continue
        facts = Facts(pki.id("shop/payments").workload, PORT, pki.id(), http=HttpFacts("GET", target.path))
        found[spelling] = (str(target), decide(rules, facts))
    return found


@pytest.mark.parametrize("pattern", ALLOWS)
def test_law_14_no_spelling_makes_an_allow_mean_more(pki: Pki, pattern: str) -> None:
    passed = {s: t for s, (t, decision) in decided(pki, policy(PORT, {"paths": [pattern]})).items() if decision.allowed}
    assert passed
    for spelling, target in passed.items():
        for reading in naive_readings(target, closing=False):
            assert re.fullmatch(ALLOWS[pattern], reading), (spelling, target, reading)


@pytest.mark.parametrize("rule", [{}, {"methods": ["GET"]}])
@pytest.mark.parametrize("pattern", DENIES)
def test_law_14_no_spelling_gets_around_a_deny(pki: Pki, pattern: str, rule: dict[str, list[str]]) -> None:
    deny = policy(PORT, {"paths": [pattern], **rule}, kind="DenyPolicy")
    passed = {s: target for s, (target, decision) in decided(pki, policy(PORT), deny).items() if decision.allowed}
    assert set(INNOCENT) <= set(passed)
    for spelling, target in passed.items():
        assert FORBIDDEN not in naive_readings(target, closing=True), (spelling, target)


@pytest.mark.parametrize("pattern", DENIES)
def test_law_14_no_spelling_escapes_an_audit(pki: Pki, pattern: str) -> None:
    deny = policy(PORT, {"paths": [pattern]}, kind="DenyPolicy", mode="audit")
    for spelling, (target, decision) in decided(pki, policy(PORT), deny).items():
        assert decision.allowed
        if FORBIDDEN in naive_readings(target, closing=True):
            assert [each.would for each in decision.audit] == ["deny"], (spelling, target)


@pytest.mark.parametrize("door", ["outbound", "inbound"])
@pytest.mark.parametrize("kind", ["allow", "deny"])
async def test_law_14_no_spelling_of_a_forbidden_path_reaches_the_application(shop: Shop, door: str, kind: str) -> None:
    recording = Recording()
    await shop.open({"paths": ["/open/*"]}, serve=recording.serve)
    if kind == "deny":
        deny = policy(shop.app_port, {"paths": [FORBIDDEN]}, kind="DenyPolicy")
        shop.payments.learn(policies=[policy(shop.app_port), deny])
    asked = [each for each in (*SPELLINGS, *INNOCENT) if each[0] in "/hH"]  # all but these end the connection
    request = b"".join(f"GET {each} HTTP/1.1\r\nHost: payments\r\n\r\n".encode("latin-1") for each in asked)
    answer = await shop.say(request, straight=door == "inbound")
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
    assert len(statuses) == len(asked)
    assert set(statuses) == {b"200", b"400", b"403"}
    await eventually(recording.settled)
    reached = [each.target for each in recording.taken()]
    assert len(reached) == statuses.count(b"200")
    for target in reached:
        assert FORBIDDEN not in naive_readings(target, closing=True), target
