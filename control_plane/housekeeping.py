"""What a control plane does without being asked: leases run out, certificates of its own are replaced in time, and the
store's past is kept within its bounds."""

import logging

import trio

from control_plane.authority import AuthorityRefused
from control_plane.log import fields
from control_plane.push.office import Office, in_thread
from control_plane.state import StateRefused
from control_plane.store.errors import StoreError

LOOK_AT_LEAST = 60.0  # seconds: the wall clock can be moved while trio's sleeps on
TIDY_SECONDS = (1.0, 600.0)  # between two slices, and after the last one; what is too much goes with the writes too
LEASE_FRACTION = 10  # an endpoint is gone at most a tenth of a lease after its end

log = logging.getLogger("doorward.housekeeping")


async def expire_leases(office: Office) -> None:
    """Forget leases that ran out, until cancelled."""
    pause = min(LOOK_AT_LEAST, office.lifetimes.lease.total_seconds() / LEASE_FRACTION)
    while True:
        await trio.sleep(pause)
        try:
            if await in_thread(office.store.expire_leases):
                office.advance.announce()
        except StoreError as error:
            log.exception("leases cannot be expired", extra=fields(reason=str(error)))
            office.metrics.failures.labels("store").inc()


async def tidy_store(office: Office) -> None:
    """Prune what the store need not keep any more, a slice at a time, until cancelled."""
    soon, later = TIDY_SECONDS
    while True:
        try:
            more, pruned = await in_thread(office.store.tidy), await in_thread(office.store.pruned)
            office.metrics.store_pruned.labels("policy_versions").set(pruned.versions)
            office.metrics.store_pruned.labels("audit_entries").set(pruned.entries)
        except StoreError as error:
            log.exception("the store cannot be tidied", extra=fields(reason=str(error)))
            office.metrics.failures.labels("store").inc()
            more = False
        await trio.sleep(soon if more else later)


async def renew_authority(office: Office) -> None:
    """Replace the issuing intermediate and the own SVID at half of their lives, until cancelled."""
    authority = office.authority
    while True:
        due = (authority.next_due() - office.clock()).total_seconds()
        await trio.sleep(min(LOOK_AT_LEAST, max(0.0, due)))
        try:
            if await in_thread(authority.renew_issuer_if_due):
                await _renewed(office, "issuer", authority.issuer.certificate.serial_number)
            if await in_thread(authority.renew_own_if_due):
                await _renewed(office, "own_certificate", authority.svid.serial)
        except (AuthorityRefused, StateRefused, StoreError) as error:
            log.exception("a certificate of the control plane's own cannot be renewed", extra=fields(reason=str(error)))
            office.metrics.failures.labels("authority").inc()
            await trio.sleep(LOOK_AT_LEAST)


async def _renewed(office: Office, what: str, serial: int) -> None:
    log.info("renewed", extra=fields(what=what, serial=str(serial)))
    detail = {"serial": str(serial)}
    await in_thread(lambda: office.store.record("doorward", f"{what}.renewed", detail))
