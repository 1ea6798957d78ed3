"""Everything that the admin API refuses, as one exception and one JSON shape: {"error", "message", "faults"}.

`error` is a short name for programs, `message` a sentence that says what to do, `faults` every fault of a policy file,
each with its source and path.
"""

from collections.abc import Iterable

from attrs import asdict
from starlette.responses import JSONResponse

from mesh.policy import Fault


class Problem(Exception):
    """A request that is refused. Becomes the answer with `status`."""

    def __init__(self, status: int, error: str, message: str, faults: Iterable[Fault] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.faults = tuple(faults)

    def response(self) -> JSONResponse:
        """The answer."""
        faults = [{**asdict(fault), "text": str(fault)} for fault in self.faults]
        return JSONResponse({"error": self.error, "message": self.message, "faults": faults}, status_code=self.status)
