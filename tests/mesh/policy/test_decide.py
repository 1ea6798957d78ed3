"""What decide() answers, and how it explains itself: one behaviour per test."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from mesh.policy import AuditFinding, Decision, Facts, HttpFacts, NearMiss, PolicySet, Reason, compile_rules, decide

OWN = TrustDomain("cluster.local")
FRONTEND = "spiffe://cluster.local/ns/shop/sa/frontend"
CHECKOUT = "spiffe://cluster.local/ns/shop/sa/checkout"

Make = Callable[..., dict[str, Any]]
Ask = Callable[..., Decision]


@pytest.fixture
def ask(read: Callable[..., PolicySet]) -> Ask:
    """Decide one call to shop/payments:8080 under these documents; `request` is "METHOD /path", None raw TCP."""

    def ask(
        *documents: dict[str, Any],
        caller: str | None = FRONTEND,
        port: int = 8080,
        request: str | None = None,
        address: str | None = None,
        to: str = "shop/payments",
    ) -> Decision:
        facts = Facts(
            WorkloadName.parse(to),
            port,
            None if caller is None else SpiffeId.parse(caller),
            None if address is None else ip_address(address),
            None if request is None else HttpFacts(*request.split()),
        )
        return decide(compile_rules(read(*documents), OWN), facts)

    return ask


def test_an_allow_allows_and_says_which_rule_of_which_policy(ask: Ask, policy: Make) -> None:
    rules = [{"methods": ["GET"]}, {"methods": ["POST"], "paths": ["/charges"]}]
    decision = ask(policy(http=rules), request="POST /charges")
    assert decision == Decision(True, Reason.ALLOWED_BY_POLICY, "shop/p", 1, tried=("shop/p",))


def test_without_a_policy_nothing_is_allowed(ask: Ask) -> None:
    assert ask() == Decision(False, Reason.NO_POLICY_FOR_WORKLOAD)


def test_a_policy_of_another_namespace_does_not_govern(ask: Ask, policy: Make) -> None:
    everyone = [{"namespace": "shop", "workload": "*"}]
    decision = ask(policy(namespace="ops", to={"workload": "*"}, source=everyone))
    assert decision == Decision(False, Reason.NO_POLICY_FOR_WORKLOAD)


def test_a_deny_wins_over_an_allow_whatever_their_names(ask: Ask, policy: Make) -> None:
    documents = [policy("a"), policy("z", kind="DenyPolicy")]
    expected = Decision(False, Reason.DENIED_BY_POLICY, "shop/z", tried=("shop/z", "shop/a"))
    assert ask(*documents) == ask(*reversed(documents)) == expected


def test_a_star_governs_every_workload_of_its_namespace_and_joins_the_named_ones(ask: Ask, policy: Make) -> None:
    documents = [policy("named"), policy("all", to={"workload": "*"}, source=[{"workload": "checkout"}])]
    assert ask(*documents, caller=FRONTEND).policy == "shop/named"
    assert ask(*documents, caller=CHECKOUT).policy == "shop/all"
    assert ask(*documents, caller=CHECKOUT, to="shop/unheard-of").policy == "shop/all"
    assert not ask(*documents, caller=CHECKOUT, to="ops/payments").allowed


def test_a_policy_without_ports_means_all_ports(ask: Ask, policy: Make) -> None:
    documents = [policy("all"), policy("one", to={"workload": "payments", "ports": [9]}, source=[{"workload": "x"}])]
    assert [ask(*documents, port=port).allowed for port in (1, 9, 65535)] == [True] * 3


@pytest.mark.parametrize(
    ("clause", "caller", "allowed"),
    [
        ({"workload": "frontend"}, FRONTEND, True),
        ({"workload": "frontend"}, CHECKOUT, False),
        ({"workload": "frontend"}, "spiffe://cluster.local/ns/ops/sa/frontend", False),
        ({"workload": "frontend"}, "spiffe://partner.example/ns/shop/sa/frontend", False),
        ({"namespace": "ops", "workload": "*"}, "spiffe://cluster.local/ns/ops/sa/anyone", True),
        ({"namespace": "ops", "workload": "*"}, "spiffe://cluster.local/ns/ops2/sa/anyone", False),
        ({"namespace": "ops", "workload": "*"}, "spiffe://cluster.local/ns/ops/sa/any/one", False),
        ({"namespace": "ops", "workload": "*"}, "spiffe://partner.example/ns/ops/sa/anyone", False),
        ({"identity": "spiffe://partner.example/x"}, "spiffe://partner.example/x", True),
        ({"identity": "spiffe://partner.example/x"}, "spiffe://partner.example/x/y", False),
        ({"identity": "spiffe://partner.example/x"}, "spiffe://cluster.local/x", False),
        ({"unauthenticated": True}, FRONTEND, False),
    ],
)
def test_who_a_clause_means(ask: Ask, policy: Make, clause: dict[str, Any], caller: str, allowed: bool) -> None:
    assert ask(policy(source=[clause]), caller=caller).allowed is allowed
    assert ask(policy(source=[{"workload": "unrelated"}, clause]), caller=caller).allowed is allowed


def test_a_caller_named_by_one_policy_is_still_matched_by_the_star_of_another(ask: Ask, policy: Make) -> None:
    star = policy("star", source=[{"workload": "*"}], http=[{"methods": ["GET"]}])
    named = policy("named", http=[{"methods": ["POST"]}])
    assert ask(star, named, request="GET /").policy == "shop/star"
    assert ask(star, named, request="POST /").policy == "shop/named"


def test_the_star_of_a_policy_never_reaches_a_foreign_caller_that_another_policy_names(ask: Ask, policy: Make) -> None:
    partner = "spiffe://partner.example/ns/shop/sa/frontend"
    star = policy("star", source=[{"workload": "*"}], http=[{"methods": ["GET"]}])
    named = policy("named", source=[{"identity": partner}], http=[{"methods": ["POST"]}])
    assert ask(star, named, caller=partner, request="POST /").policy == "shop/named"
    assert not ask(star, named, caller=partner, request="GET /").allowed


def test_plaintext_is_refused_at_once_where_mtls_is_strict(ask: Ask, policy: Make, defaults: Make) -> None:
    admitting = policy(source=[{"unauthenticated": True}])
    assert ask(admitting, caller=None) == Decision(False, Reason.CERTIFICATE_MISSING)
    assert ask(admitting, defaults(default="audit"), caller=None).reason is Reason.CERTIFICATE_MISSING


@pytest.mark.parametrize(
    ("clause", "address", "allowed"),
    [
        ({"unauthenticated": True}, None, True),
        ({"unauthenticated": True, "addresses": ["10.0.0.0/8"]}, "10.1.2.3", True),
        ({"unauthenticated": True, "addresses": ["10.0.0.0/8"]}, "::ffff:10.1.2.3", True),
        ({"unauthenticated": True, "addresses": ["10.0.0.0/8"]}, "11.1.2.3", False),
        ({"unauthenticated": True, "addresses": ["10.0.0.0/8"]}, "fd00::1", False),
        ({"unauthenticated": True, "addresses": ["10.0.0.0/8"]}, None, False),
        ({"unauthenticated": True, "addresses": ["10.1.2.3"]}, "10.1.2.3", True),
        ({"unauthenticated": True, "addresses": ["fd00::/8"]}, "fd00::1", True),
        ({"workload": "*"}, "10.1.2.3", False),
    ],
)
def test_which_plaintext_callers_an_allow_admits(
    ask: Ask, policy: Make, defaults: Make, clause: dict[str, Any], address: str | None, allowed: bool
) -> None:
    decision = ask(policy(source=[clause]), defaults(mtls="permissive"), caller=None, address=address)
    assert decision.allowed is allowed


def test_any_identity_clause_of_a_deny_matches_a_plaintext_caller(ask: Ask, policy: Make, defaults: Make) -> None:
    documents = [
        policy("open", source=[{"unauthenticated": True}]),
        policy("guard", kind="DenyPolicy", source=[{"identity": "spiffe://partner.example/x"}]),
        defaults(mtls="permissive"),
    ]
    decision = ask(*documents, caller=None)
    assert (decision.allowed, decision.policy) == (False, "shop/guard")
    assert decision.nearest == NearMiss(
        "shop/guard", "spec.from", "spiffe://partner.example/x", "a plaintext caller from an unknown address"
    ), "it says what the call lacked"
    assert ask(*documents, caller=FRONTEND).reason is Reason.NO_POLICY_MATCHED
    both = policy("both", kind="DenyPolicy", http=[{"methods": ["GET"]}])
    lacking = ask(both, defaults(mtls="permissive"), caller=None, address="10.0.0.1").nearest
    expected = NearMiss("shop/both", "spec.from", FRONTEND, "a plaintext caller from 10.0.0.1")
    assert lacking == expected, "of two that are lacking it names the first"


def test_a_deny_by_address_matches_an_unknown_address(ask: Ask, policy: Make, defaults: Make) -> None:
    documents = [
        policy("open", source=[{"unauthenticated": True}]),
        policy("guard", kind="DenyPolicy", source=[{"unauthenticated": True, "addresses": ["10.0.0.0/8"]}]),
        defaults(mtls="permissive"),
    ]
    asked = [ask(*documents, caller=None, address=each) for each in ("10.0.0.1", "11.0.0.1", None)]
    assert [each.allowed for each in asked] == [False, True, False]
    assert [each.nearest is None for each in asked] == [True, True, False], "only the last lacked something"


def test_an_http_rule_never_allows_raw_tcp_and_always_denies_it(ask: Ask, policy: Make) -> None:
    http = [{"paths": ["/charges"]}]
    allow = ask(policy(http=http))
    assert (allow.reason, allow.nearest) == (
        Reason.NO_POLICY_MATCHED,
        NearMiss("shop/p", "spec.http", "an HTTP request", "raw TCP"),
    )
    deny = ask(policy("open"), policy("guard", kind="DenyPolicy", http=http))
    assert (deny.reason, deny.policy, deny.rule) == (Reason.DENIED_BY_POLICY, "shop/guard", None)
    assert deny.nearest == NearMiss("shop/guard", "spec.http", "an HTTP request", "raw TCP")


@pytest.mark.parametrize(
    ("request_line", "denied"),
    [
        ("POST /admin", True),
        ("post /admin", True),
        ("GET /admin", False),
        ("POST /admin/x", True),
        ("POST /admin;v=1/x", True),
        ("POST /admin%3Bv=1/x", True),
        ("POST /;/admin", True),
        ("POST /Admin", False),
        ("POST /a@b", True),
        ("POST /a%40b", True),
        ("POST /c:d", True),
        ("POST /c%3Ad", True),
        ("POST /other;a@b", False),
        ("POST *", True),
    ],
)
def test_a_deny_sees_through_disguises(ask: Ask, policy: Make, request_line: str, denied: bool) -> None:
    rules = [{"methods": ["POST"], "paths": ["/admin", "/admin/*", "/a@b", "/c%3Ad"]}]
    decision = ask(policy("open"), policy("guard", kind="DenyPolicy", http=rules), request=request_line)
    assert decision.allowed is not denied


@pytest.mark.parametrize("request_line", ["post /a@b", "POST /a%40b", "POST /a@b;v=1", "POST *"])
def test_an_allow_takes_a_request_as_it_stands(ask: Ask, policy: Make, request_line: str) -> None:
    rules = [{"methods": ["POST"], "paths": ["/a@b"]}, {"methods": ["POST"], "paths": ["/c/*"]}]
    assert not ask(policy(http=rules), request=request_line).allowed


def test_allow_mesh_admits_every_certificate_of_the_own_trust_domain(ask: Ask, policy: Make, defaults: Make) -> None:
    opened = defaults(default="allow-mesh", mtls="permissive")
    assert ask(opened) == Decision(True, Reason.ALLOWED_BY_MESH_DEFAULT)
    assert ask(opened, caller="spiffe://cluster.local/operator/ann").allowed
    assert ask(opened, caller="spiffe://partner.example/ns/shop/sa/frontend").reason is Reason.NO_POLICY_FOR_WORKLOAD
    assert ask(opened, caller=None).reason is Reason.NO_POLICY_FOR_WORKLOAD
    assert not ask(opened, policy(kind="DenyPolicy")).allowed


def test_an_audit_default_allows_and_reports_that_no_allow_matched(ask: Ask, policy: Make, defaults: Make) -> None:
    watching = defaults(default="audit", mtls="permissive")
    decision = ask(watching, policy(), caller=CHECKOUT)
    assert (decision.allowed, decision.reason) == (True, Reason.ALLOWED_BY_AUDIT_DEFAULT)
    assert decision.audit == (AuditFinding("deny", None, None),)
    assert decision.nearest == NearMiss("shop/p", "spec.from", FRONTEND, CHECKOUT)
    assert ask(watching, caller=None).allowed
    assert not ask(watching, policy(kind="DenyPolicy")).allowed
    assert ask(watching, policy()).audit == (), "an allow matched: nothing to report"
    trial = policy("trial", mode="audit")
    assert ask(watching, trial).audit == (AuditFinding("allow", "shop/trial", None), AuditFinding("deny", None, None))


def test_policies_in_audit_mode_report_and_change_nothing(ask: Ask, policy: Make) -> None:
    documents = [
        policy("open"),
        policy("allow", mode="audit", http=[{"methods": ["PUT"]}, {"methods": ["GET"]}]),
        policy("deny", kind="DenyPolicy", mode="audit", http=[{"paths": ["/x"]}]),
        policy("silent", mode="audit", source=[{"workload": "someone"}]),
    ]
    decision = ask(*documents, request="GET /x")
    assert (decision.allowed, decision.policy) == (True, "shop/open")
    assert decision.audit == (AuditFinding("deny", "shop/deny", 0), AuditFinding("allow", "shop/allow", 1))
    assert ask(*documents).audit == (AuditFinding("deny", "shop/deny", None),), "raw TCP lacks a path"


def test_an_audit_allow_alone_leaves_the_port_without_a_policy(ask: Ask, policy: Make) -> None:
    decision = ask(policy(mode="audit"))
    assert (decision.reason, decision.nearest) == (Reason.NO_POLICY_FOR_WORKLOAD, None)
    assert decision.audit == (AuditFinding("allow", "shop/p", None),)


def test_tried_names_what_governs_the_port_denies_first_then_by_name(ask: Ask, policy: Make) -> None:
    documents = [
        policy("b"),
        policy("a"),
        policy("d", kind="DenyPolicy", source=[{"workload": "x"}]),
        policy("c", kind="DenyPolicy", source=[{"workload": "x"}], mode="audit"),
        policy("other-port", to={"workload": "payments", "ports": [1]}),
        policy("other-workload", to={"workload": "checkout"}),
    ]
    assert ask(*documents).tried == ("shop/c", "shop/d", "shop/a", "shop/b")
    assert ask(*documents, caller=CHECKOUT).tried == ("shop/c", "shop/d", "shop/a", "shop/b")


@pytest.mark.parametrize(
    ("caller", "port", "request_line", "expected"),
    [
        (FRONTEND, 9, None, ("shop/charge", "spec.to.ports", "8080, 8081", "9")),
        ("spiffe://partner.example/x", 8080, "GET /zzz", ("shop/charge", "spec.from", FRONTEND, "…")),
        ("spiffe://partner.example/x", 8080, "GET /audit/1", ("shop/look", "spec.from", CHECKOUT, "…")),
        (FRONTEND, 8080, None, ("shop/charge", "spec.http", "an HTTP request", "raw TCP")),
        (FRONTEND, 8080, "GET /zzz", ("shop/charge", "spec.http[1].paths", "/charges/*", "/zzz")),
        (FRONTEND, 8080, "PUT /zzz", ("shop/charge", "spec.http[0].paths", "/charges, /refunds", "/zzz")),
        (FRONTEND, 8080, "DELETE /charges/1", ("shop/charge", "spec.http[1].methods", "GET", "DELETE")),
        (CHECKOUT, 8080, "POST /charges", ("shop/look", "spec.http[0].paths", "/audit/{id}", "/charges")),
    ],
)
def test_the_nearest_miss_is_the_policy_that_failed_last(
    ask: Ask, policy: Make, caller: str, port: int, request_line: str | None, expected: tuple[str, str, str, str]
) -> None:
    to = {"workload": "payments", "ports": [8080, 8081]}
    rules = [{"methods": ["POST"], "paths": ["/charges", "/refunds"]}, {"methods": ["GET"], "paths": ["/charges/*"]}]
    documents = [
        policy("charge", to=to, http=rules),
        policy("look", to=to, source=[{"workload": "checkout"}], http=[{"paths": ["/audit/{id}"]}]),
    ]
    decision = ask(*documents, caller=caller, port=port, request=request_line)
    assert not decision.allowed
    assert decision.nearest == NearMiss(*expected[:3], caller if expected[3] == "…" else expected[3])


def test_an_explanation_stays_short_however_long_the_policy_and_the_request(ask: Ask, policy: Make) -> None:
    many = [{"workload": f"w{number}"} for number in range(100)]
    by_source = ask(policy(source=many)).nearest
    assert by_source is not None
    assert by_source.wanted.endswith("sa/w7 and 92 more")
    by_path = ask(policy(http=[{"paths": ["/a"]}]), request="GET /" + "x" * 5000).nearest
    assert by_path is not None
    assert len(by_path.got) == 200


def test_a_plaintext_caller_is_described_by_its_address(ask: Ask, policy: Make, defaults: Make) -> None:
    source = [{"unauthenticated": True, "addresses": ["10.0.0.0/8", "fd00::/8"]}, {"namespace": "ops", "workload": "*"}]
    decision = ask(policy(source=source), defaults(mtls="permissive"), caller=None, address="192.0.2.1")
    assert decision.nearest == NearMiss(
        "shop/p",
        "spec.from",
        "a plaintext caller from 10.0.0.0/8, fd00::/8, spiffe://cluster.local/ns/ops/sa/*",
        "a plaintext caller from 192.0.2.1",
    )
