"""Is everything well? The list that `doorward check` shows: each line ok, warn or fail, with what to do about it.

`gather` reads, `examine` is pure: from what was gathered to the list. A fail is something that refuses traffic now or
very soon, or evidence of tampering; a warn is something that a person should look at.
"""

import functools
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from attrs import Factory, asdict, frozen
from cryptography import x509

from certs.bundle import TrustBundle
from control_plane.admin.backend import Backend, NotAccepted, in_thread
from control_plane.admin.enforcement import enforces
from control_plane.admin.policy_changes import stored_policy_set
from control_plane.injector.registration import Registered
from control_plane.kubernetes.contact import Contact
from control_plane.push.links import LinkStatus
from control_plane.store.errors import AuditBroken
from control_plane.store.records import Lease, PolicyKey
from mesh.policy import Fault, PolicyFaults, PolicySet, lint
from mesh.wire import EVERY_DESTINATION

ROOT_SOON = timedelta(days=90)
LATE = 0.3
"""Certificates are replaced at half of their life; with less than this share left, something prevents that."""
LEAF_SOON = timedelta(minutes=5)
SHOWN = 3
"""How many examples a line names; the count says the rest."""
FAULT_CHARACTERS = 300
"""Of a fault's path and of its message: both repeat what somebody wrote."""


@frozen
class Check:
    """One line. `advice` is empty where there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


@frozen
class Gathered:
    """What `examine` looks at. `audit` is the number of sound entries, or what is wrong with the log."""

    now: datetime
    bundle: TrustBundle
    issuer: x509.Certificate
    root_is_offline: bool
    epoch: str
    revision: int
    policies: PolicySet
    faults: Sequence[Fault]
    """What is wrong with the stored policies; `policies` is empty then."""
    warnings: Sequence[Fault]
    links: Sequence[LinkStatus]
    leases: Sequence[Lease]
    audit: int | str
    leaf_soon: timedelta = LEAF_SOON
    """With less than this left, a sidecar's certificate should have been renewed."""
    contact: Contact | None = None
    """The Kubernetes API server, where there is one."""
    not_accepted: NotAccepted = Factory(NotAccepted)
    registered: Registered | None = None
    """How the injector's webhook is registered, where there is one."""


async def checks(backend: Backend) -> list[dict[str, Any]]:
    """Gather and examine: each check as plain data."""
    links, now = backend.links.status(), backend.clock()
    gathered = await in_thread(functools.partial(gather, backend, links, now))
    return [asdict(check) for check in examine(gathered)]


def gather(backend: Backend, links: Sequence[LinkStatus], now: datetime) -> Gathered:
    """Read what `examine` needs. Blocks."""
    faults: Sequence[Fault] = ()
    try:
        policies, revision = stored_policy_set(backend.store)
    except PolicyFaults as error:
        policies, revision, faults = PolicySet(), backend.store.policy_number(), error.faults
    try:
        audit: int | str = backend.store.verify_audit()
    except AuditBroken as error:
        audit = str(error)
    return Gathered(
        now=now,
        bundle=backend.authority.bundle,
        issuer=backend.authority.issuer.chain[0],
        root_is_offline=backend.authority.root_is_offline,
        epoch=backend.store.epoch,
        revision=revision,
        policies=policies,
        faults=faults,
        warnings=lint(policies),
        links=links,
        leases=backend.store.leases(),
        audit=audit,
        leaf_soon=min(LEAF_SOON, backend.lifetimes.certificate * LATE),
        contact=backend.contact,
        not_accepted=backend.not_accepted,
        registered=_registered(backend),
    )


def examine(gathered: Gathered) -> list[Check]:
    """Every check, in the order in which a person should read them."""
    return [
        _roots(gathered),
        _issuer(gathered),
        _audit(gathered),
        _policies(gathered),
        _sidecars(gathered),
        _enforcement(gathered),
        _snapshots(gathered.links),
        _certificates(gathered),
        _destinations(gathered),
        *([_cluster(gathered.contact), _objects(gathered.not_accepted)] if gathered.contact is not None else []),
        *([_injector(gathered.registered)] if gathered.registered is not None else []),
    ]


def _roots(gathered: Gathered) -> Check:
    first = min(root.not_valid_after_utc for root in gathered.bundle.all_roots)
    until = f"{len(gathered.bundle.all_roots)} trusted, the first expires on {first:%Y-%m-%d}"
    if first <= gathered.now:
        return Check("root certificates", "fail", until, "certificates below it are refused: add a new root")
    if first - gathered.now < ROOT_SOON:
        return Check("root certificates", "warn", until, "make a new root now and let both be trusted for a while")
    return Check("root certificates", "ok", until)


def _issuer(gathered: Gathered) -> Check:
    ends = gathered.issuer.not_valid_after_utc
    until = f"expires at {ends:%Y-%m-%d %H:%M} UTC"
    offline = "bring root.key back into the state directory: it signs the next one"
    advice = offline if gathered.root_is_offline else "it should have been replaced by now: see the control plane's log"
    if ends <= gathered.now:
        return Check("issuing certificate", "fail", f"expired: {until}", advice)
    if (ends - gathered.now) / (ends - gathered.issuer.not_valid_before_utc) < LATE:
        return Check("issuing certificate", "warn", until, advice)
    return Check("issuing certificate", "ok", until)


def _audit(gathered: Gathered) -> Check:
    if isinstance(gathered.audit, str):
        advice = "somebody changed the store behind Doorward's back: keep the file and compare it with a backup"
        return Check("audit log", "fail", gathered.audit, advice)
    return Check("audit log", "ok", f"{gathered.audit} entries, all as they were written")


def _policies(gathered: Gathered) -> Check:
    count = len(gathered.policies.policies)
    if gathered.faults:
        examples = _some(str(fault) for fault in gathered.faults)
        advice = "another version wrote them, or somebody changed the store: apply them anew, or doorward policy delete"
        return Check("policies", "fail", f"what is stored cannot be read: {examples}", advice)
    if not count:
        apply = "kubectl apply" if gathered.contact is not None else "doorward policy apply"
        return Check("policies", "warn", "there are none: every call is denied", f"{apply} -f DIR")
    if gathered.warnings:
        examples = _some(str(fault) for fault in gathered.warnings)
        return Check("policies", "warn", f"{count} in force; {examples}", "doorward policy get -o yaml shows them")
    return Check("policies", "ok", f"{count} in force, revision {gathered.revision}")


def _sidecars(gathered: Gathered) -> Check:
    if not gathered.links:
        outside = "start one with a token: doorward token create --workload NAMESPACE/NAME"
        inside = (
            "kubectl label namespace NAMESPACE doorward.dev/inject=enabled, and restart its pods; where they have "
            "sidecars: kubectl logs POD -c doorward-sidecar"
        )
        advice = outside if gathered.contact is None else inside
        return Check("sidecars", "warn", "none is connected", advice)
    return Check("sidecars", "ok", f"{len(gathered.links)} connected")


def _enforcement(gathered: Gathered) -> Check:
    refusing = [link for link in gathered.links if link.last_nack]
    if refusing:
        examples = _some(f"{link.identity}: {link.last_nack.message}" for link in refusing if link.last_nack)
        return Check(
            "enforcement", "fail", f"refused a snapshot: {examples}", "it keeps the last good one: see its log"
        )
    behind = [link for link in gathered.links if not enforces(link, gathered.revision, gathered.epoch)]
    if behind:
        examples = _some(f"{link.identity} ({link.address})" for link in behind)
        return Check("enforcement", "warn", f"not at revision {gathered.revision} yet: {examples}", "run this again")
    return Check("enforcement", "ok", f"every connected sidecar enforces revision {gathered.revision}")


def _snapshots(links: Sequence[LinkStatus]) -> Check:
    unsent = [link for link in links if link.unsent]
    if not unsent:
        return Check("snapshots", "ok", "none is too large to be sent")
    examples = _some(f"{link.identity}: {link.unsent}" for link in unsent)
    advice = (
        "it keeps the last one, or is not ready without any: delete policies of its namespace and bans that nobody "
        "needs, or let it name by --outbound what it calls in place of reaching everything"
    )
    return Check("snapshots", "fail", f"too large to be sent: {examples}", advice)


def _certificates(gathered: Gathered) -> Check:
    late = [link for link in gathered.links if link.certificate_not_after - gathered.now < gathered.leaf_soon]
    if not late:
        return Check("sidecar certificates", "ok", "none is about to expire")
    examples = _some(f"{link.identity} at {link.certificate_not_after:%H:%M:%S} UTC" for link in late)
    expired = any(link.certificate_not_after <= gathered.now for link in late)
    advice = "renewal fails there: see that sidecar's log"
    return Check("sidecar certificates", "fail" if expired else "warn", f"expires: {examples}", advice)


def _destinations(gathered: Gathered) -> Check:
    offered = {f"{lease.workload}:{lease.port}" for lease in gathered.leases if lease.confirmed}
    missing = {
        wanted: link.identity
        for link in gathered.links
        for wanted in link.destinations
        if wanted not in offered and wanted != EVERY_DESTINATION
    }
    if missing:
        examples = _some(f"{wanted} (wanted by {by})" for wanted, by in sorted(missing.items()))
        return Check("destinations", "warn", f"offered by no sidecar: {examples}", "start a sidecar for it")
    return Check("destinations", "ok", f"{len(offered)} offered; every one that is wanted is there")


def _cluster(contact: Contact) -> Check:
    if not contact.away:
        return Check("cluster", "ok", "the API server answers" if contact.ever else "the API server was not asked yet")
    advice = "what was read from it stays in force; pods' certificates are neither issued nor renewed until it is back"
    return Check("cluster", "warn", f"the API server is away: {contact.away}", advice)


def _objects(found: NotAccepted) -> Check:
    faulty, waiting = found.faulty, [key for key in found.waiting if key not in found.faulty]
    if not faulty and not waiting:
        return Check("policy objects", "ok", "every one in the cluster is accepted")
    said = [f"{_name(key)}: {_first(faults)}" for key, faults in faulty.items()]
    said += [f"{_name(key)}: the command made what is in force" for key in waiting]
    advice = []
    if faulty:
        kind, namespace, name = next(iter(faulty))
        advice.append(
            f"kubectl get {kind.lower()} -n {namespace} {name} -o yaml lists every fault; correct it there: "
            "the last good version, if there was one, stays in force"
        )
    if waiting:
        advice.append(f"doorward policy release {_name(waiting[0])} hands it over, or delete the object")
    return Check("policy objects", "warn", f"{len(said)} not accepted: {_some(said)}", "; ".join(advice))


def _name(key: PolicyKey) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}"


def _first(faults: Sequence[Fault]) -> str:
    path, message = (text[:FAULT_CHARACTERS] for text in (faults[0].path, faults[0].message))
    first = f"{path}: {message}" if path else message
    return f"{len(faults)} faults, the first: {first}" if len(faults) > 1 else f"1 fault: {first}"


def _registered(backend: Backend) -> Registered | None:
    registration = backend.injection and backend.injection.registration
    return registration.status() if registration else None


def _injector(registered: Registered) -> Check:
    webhook = f"the webhook {registered.name}"
    if registered.state == "current":
        return Check("injector", "ok", f"{webhook} is registered, with the roots of today")
    if registered.state == "missing":
        advice = "install the chart, or name its MutatingWebhookConfiguration by --injector-webhook"
        return Check("injector", "fail", f"{webhook} is not registered: new pods get no sidecar", advice)
    if registered.state == "stale":
        advice = "new pods of labelled namespaces are refused meanwhile: may the control plane patch that object?"
        return Check("injector", "fail", f"{webhook} has other roots in its caBundle: {registered.detail}", advice)
    return Check("injector", "warn", f"{webhook}: not known yet: {registered.detail}", "run this again")


def _some(examples: Iterable[str]) -> str:
    every = list(examples)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return "; ".join(every[:SHOWN]) + more
