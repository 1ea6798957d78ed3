"""What is wrong with policy documents: every fault at once, each with the place where it stands."""

from collections.abc import Iterable

from attrs import frozen


@frozen(order=True)
class Fault:
    """One thing that is wrong, or that `lint` warns of.

    `source` names the file (or the store, or the snapshot), `index` the document in it as its reader counts them,
    `path` the place in the document, such as `spec.from[1].workload`, empty for the document itself.
    """

    source: str
    index: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}#{self.index}"
        return f"{place} {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class PolicyFaults(Exception):
    """The documents were refused, all of them. `faults` holds every fault, in the order of the documents."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))
