"""The store is tidied without anybody writing to it, and it is counted what went."""

from datetime import timedelta

import trio

from control_plane.housekeeping import tidy_store
from control_plane.push.office import in_thread
from tests.support.patience import PATIENCE
from tests.support.plane import Plane
from tests.support.stores import document


async def test_what_time_made_superfluous_is_pruned_and_counted(plane: Plane) -> None:
    store = plane.office.store
    await in_thread(lambda: store.change_policies([document("a")], [], author="ann", message=""))
    await in_thread(lambda: store.change_policies([], [("AllowPolicy", "shop", "a")], author="ann", message=""))
    await in_thread(lambda: store.change_policies([document("b")], [], author="ann", message=""))
    plane.clock.offset = timedelta(days=31)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tidy_store, plane.office)
        with trio.fail_after(PATIENCE):
            while plane.count("store_pruned", ledger="policy_versions") != 2:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert len(await in_thread(store.revisions)) == 1
