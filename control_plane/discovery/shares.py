"""How much of a snapshot one namespace may fill, so that nobody's objects keep others' out of it. PURE.

Who may write pods, Services and EndpointSlices in one namespace can make very many of them, and a snapshot that no
sidecar takes would leave all of them with their last one. Within its bounds a namespace has all that it wants; beyond,
each of its objects has the same share, and never nothing: what is known of an address keeps calls to it in the mesh.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

MAX_ENDPOINTS: Final = 20_000
MAX_SERVICE_PORTS: Final = 10_000
MAX_BACKENDS: Final = 100_000
"""Of one namespace, each. Ports of services count once for each IP version; backends once for each of these."""


def shares(sizes: Iterable[tuple[str, int]], most: int) -> dict[str, int]:
    """How much each object of a namespace may have where the namespace exceeds `most`. `sizes` are by namespace."""
    wanted: defaultdict[str, list[int]] = defaultdict(list)
    for namespace, size in sizes:
        wanted[namespace].append(size)
    return {namespace: max(1, most // len(found)) for namespace, found in wanted.items() if sum(found) > most}
