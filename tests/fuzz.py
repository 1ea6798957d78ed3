"""`make fuzz`: every property test with fresh random examples, round after round, until the time is over.

Each round has a seed of its own, which orders the files too: where the time is over before a round is, no test is
always the one left out. What fails is shrunk, printed with how to reproduce it, and kept in the database of
the profile "fuzz" (tests/conftest.py), so that the next `make fuzz` tries it first. Exit 1 where anything failed.
"""

import argparse
import random
import re
import secrets
import signal
import sys
import time
from pathlib import Path

import pytest
from attrs import Factory, define

_HERE = Path(__file__).parent
_EXAMPLES = re.compile(r"(\d+) passing, (\d+) failing")  # Hypothesis' statistics, one line for each phase


@define
class Tally:
    """A pytest plugin: which tests there are and have run, how many examples they tried, and what failed."""

    known: set[str] = Factory(set)
    tests: set[str] = Factory(set)
    examples: int = 0
    failures: dict[str, int] = Factory(dict)
    """The seed of the round in which each test failed first."""
    seed: int = 0

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Hear what one of the processes has found to do."""
        self.known.update(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear of one test's set-up, call or tear-down, in whichever process it ran."""
        self.tests.add(report.nodeid)
        counts = _EXAMPLES.findall(getattr(report, "_hypothesis_stats", ""))
        self.examples += sum(int(passing) + int(failing) for passing, failing in counts)
        if report.failed:
            self.failures.setdefault(report.nodeid, self.seed)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Hear of a file that cannot be read."""
        if report.failed:
            self.failures.setdefault(report.nodeid, self.seed)


def fuzz(seconds: int) -> int:
    """Run rounds for about so many seconds, and return the exit status."""
    tally, rounds, until = Tally(), 0, time.monotonic() + seconds
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # pytest ends a round in order, as at Ctrl-C
    while not tally.failures and (left := until - time.monotonic()) > 0:
        tally.seed, rounds = secrets.randbits(32), rounds + 1
        signal.setitimer(signal.ITIMER_REAL, left)
        status = pytest.main(_arguments(tally.seed), plugins=[tally])
        signal.setitimer(signal.ITIMER_REAL, 0)
        if status == pytest.ExitCode.INTERRUPTED and time.monotonic() < until:
            return int(status)  # somebody pressed Ctrl-C
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            return int(status)
    reached = f"{len(tally.tests)} of {len(tally.known)} property tests"
    print(f"\n{reached}, {tally.examples} examples, {rounds} rounds in {seconds} s")
    for test, seed in tally.failures.items():
        print(f"FAILED, and tried again first by the next `make fuzz`:\n  {_again(test, seed)}")
    return 1 if tally.failures or not tally.tests else 0


def _arguments(seed: int) -> list[str]:
    files = sorted(str(path) for path in _HERE.rglob("test_*.py"))
    random.Random(seed).shuffle(files)
    return [
        *files,
        *("-m", "hypothesis and not slow", "--numprocesses=auto", "--quiet", "--no-header", "-p", "no:cacheprovider"),
        *("-o", "faulthandler_timeout=0", "--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}"),
    ]


def _again(test: str, seed: int) -> str:
    return f".venv/bin/python -m pytest --hypothesis-profile=fuzz --hypothesis-seed={seed} '{test}'"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=300, help="how long (default 300)")
    sys.exit(fuzz(parser.parse_args().seconds))
