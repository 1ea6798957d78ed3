"""Laws 11 to 13: a policy file means one thing, its own mesh, and nothing for callers without a certificate."""

import io

import pytest

from control_plane.policies import read_paths
from mesh.policy import Mtls, PolicyFaults, Reason, read_policies
from sidecar.view import ALPN_HTTP
from tests.laws.conftest import Shop, defaults, get, policy, said
from tests.support.doors import call
from tests.support.pki import Pki
from transport import dial

GOOD = """\
apiVersion: doorward.dev/v1
kind: AllowPolicy
metadata: {name: p, namespace: shop}
spec:
  to: {workload: payments, ports: [8080]}
  from: [{workload: checkout}]
  http: [{methods: [GET], paths: ["/charges"]}]
"""

SURPRISES = {
    "an empty http": ('http: [{methods: [GET], paths: ["/charges"]}]', "http:"),
    "an http of nothing": ('http: [{methods: [GET], paths: ["/charges"]}]', "http: []"),
    "a rule of nothing": ('{methods: [GET], paths: ["/charges"]}', "{}"),
    "an empty list of methods": ("[GET]", "[]"),
    "an empty from": ("from: [{workload: checkout}]", "from: []"),
    "a missing from": ("  from: [{workload: checkout}]\n", ""),
    "an empty list of ports": ("[8080]", "[]"),
    "a string where a list belongs": ("[GET]", "GET"),
    "a number where a list belongs": ("[8080]", "8080"),
    "a port in quotes": ("[8080]", '["8080"]'),
    "a duplicate key": ("spec:\n", "spec:\n  mode: audit\n  mode: enforce\n"),
    "a misspelt key": ("  from:", "  form: []\n  from:"),
    "an alias": ("from: [{workload: checkout}]", "from: [&a {workload: checkout}, *a]"),
    "no": ("workload: checkout", "workload: no"),
    "on": ("workload: checkout", "workload: on"),
    "0123": ("[8080]", "[0123]"),
    "12:30": ("workload: checkout", "workload: 12:30"),
    "a tag": ("workload: checkout", "workload: !!str checkout"),
}


def read(text: str) -> object:
    return read_policies(read_paths(["-"], io.BytesIO(text.encode())))


@pytest.mark.parametrize("surprise", SURPRISES)
def test_law_11_what_could_mean_something_else_is_an_error(surprise: str) -> None:
    assert read(GOOD)
    before, after = SURPRISES[surprise]
    assert GOOD.count(before) == 1
    with pytest.raises(PolicyFaults, match="stdin#1"):
        read(GOOD.replace(before, after))


@pytest.mark.parametrize("how", ["by its workload", "by a star", "by allow-mesh"])
async def test_law_12_a_namesake_in_another_trust_domain_is_a_stranger(shop: Shop, pki: Pki, how: str) -> None:
    await shop.open()
    partner = Pki("partner.example", now=pki.now)
    shop.payments.bundle = pki.bundle_with(partner)
    ways = {
        "by its workload": policy(shop.app_port),
        "by a star": policy(shop.app_port, **{"from": [{"namespace": "shop", "workload": "*"}]}),
        "by allow-mesh": defaults(default="allow-mesh"),
    }
    shop.payments.learn(policies=[ways[how]])
    assert (await shop.get("/", straight=True)).endswith(b"ok")
    stranger = await call(shop.mesh_port, partner.svid("shop/checkout"), shop.payments.bundle, alpn=[ALPN_HTTP])
    assert b'"error": "denied"' in await said(stranger, get("/"))
    stranger.abort()
    assert len(shop.heads) == 1


async def test_law_12_a_policy_governs_its_own_namespace_only(shop: Shop) -> None:
    await shop.open(policies=[])
    foreign = policy(shop.app_port, **{"from": [{"namespace": "shop", "workload": "checkout"}]})
    foreign["metadata"]["namespace"] = "ops"
    shop.payments.learn(policies=[foreign])
    assert b'"no_policy_for_workload"' in await shop.get("/", straight=True)
    foreign["metadata"]["namespace"] = "shop"
    shop.payments.learn(policies=[foreign])
    assert (await shop.get("/", straight=True)).endswith(b"ok")


async def test_law_13_a_plaintext_caller_enters_policy_and_does_not_pass_it(shop: Shop) -> None:
    await shop.open(policies=[])
    port, permissive = shop.app_port, defaults(mtls=Mtls.PERMISSIVE.value)
    admits = policy(port, **{"from": [{"unauthenticated": True, "addresses": ["127.0.0.0/8"]}]})
    other_network = policy(port, **{"from": [{"unauthenticated": True, "addresses": ["10.0.0.0/8"]}]})
    denies = policy(port, kind="DenyPolicy")  # names a workload, which the caller may be for all that we know
    star = policy(port, **{"from": [{"namespace": "shop", "workload": "*"}]})
    for policies, outcome in (
        ([admits], b"<reset>"),  # strict: it does not even enter
        ([permissive], Reason.NO_POLICY_FOR_WORKLOAD),
        ([permissive, star], Reason.NO_POLICY_MATCHED),
        ([permissive, other_network], Reason.NO_POLICY_MATCHED),
        ([defaults(mtls="permissive", default="allow-mesh")], Reason.NO_POLICY_FOR_WORKLOAD),
        ([permissive, admits, denies], Reason.DENIED_BY_POLICY),
        ([permissive, admits], b"ok"),
        ([defaults(mtls="permissive", default="audit")], b"ok"),
    ):
        shop.payments.learn(policies=policies)
        caller = await dial("127.0.0.1", shop.mesh_port, deadline=5)
        answer = await said(caller, get("/"))
        caller.abort()
        wanted = outcome if isinstance(outcome, bytes) else f'"{outcome.value}"'.encode()
        assert wanted in answer, (policies, answer)
    assert len(shop.heads) == 2
    assert all(b"x-forwarded-client-cert" not in head for head in shop.heads)
