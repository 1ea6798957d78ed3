"""The history of policies, as far as it is kept: all of it, that of some documents, or one revision.

Numbers of revisions are store numbers, which bans, roots and endpoints take too, so not every number is a revision's;
and what was pruned is told from what never was as far as the store still knows.
"""

import functools
from typing import Any

from starlette.requests import Request

from control_plane.admin import plain
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.problems import Problem
from control_plane.admin.reading import query_int
from control_plane.store.records import Pruned, Revision

MAX_LISTED = 1000
MAX_NUMBER = 2**53

KEPT_BY = "`--max-policy-versions`, `--policy-history-lifetime` and `--max-policy-history-mib` of the control plane"


async def revisions(backend: Backend, request: Request) -> dict[str, Any]:
    """The revisions that `limit`, `namespace` and `name`, or `number` ask for. Raises Problem."""
    limit = query_int(request, "limit", 50, least=1, most=MAX_LISTED)
    number = query_int(request, "number", 0, least=0, most=MAX_NUMBER)
    pruned = await in_thread(backend.store.pruned)
    if number:
        found = [await _one(backend, number, pruned)]
    else:
        of = request.query_params.get("namespace") or None, request.query_params.get("name") or None
        found = [*await in_thread(functools.partial(backend.store.revisions, limit, *of))]
    return {
        "revisions": [{**plain.revision(each), "pruned": each.pruned} for each in found],
        "pruned": {"versions": pruned.versions, "through": pruned.through},
    }


async def _one(backend: Backend, number: int, pruned: Pruned) -> Revision:
    found = await in_thread(functools.partial(backend.store.revision, number))
    if found is not None:
        return found
    if number <= pruned.through:
        raise Problem(
            404,
            "revision_pruned",
            f"revision {number} is not kept any more, if there was one: {pruned.versions} versions up to revision "
            f"{pruned.through} had no room. `doorward audit list` may still say who changed what, with its hash; the "
            f"documents are where they were applied from, or in a backup. How much is kept is said by {KEPT_BY}",
        )
    raise Problem(
        404,
        "no_such_revision",
        f"no revision of the policies has the number {number}: bans, roots and endpoints take numbers too; "
        "`doorward policy history` lists revisions",
    )
