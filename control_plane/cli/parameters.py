"""Types of options that more than one command reads: durations, workloads and addresses.

Faults name the accepted form, as click shows them beside the option's name.
"""

import re
from datetime import timedelta

import click

from certs.errors import SpiffeIdMalformed
from certs.spiffe import WorkloadName
from control_plane.settings import HostPort, SettingRefused

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+|[0-9]+(?:\.[0-9]+)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=36500)


class Duration(click.ParamType[timedelta]):
    """A duration such as `90s`, `10m`, `1h30m` or `7d`; a number alone is seconds. Becomes a timedelta."""

    name = "duration"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it, or fail with the accepted forms."""
        if isinstance(value, timedelta):
            return value
        if len(value) > 40 or not _WHOLE.fullmatch(value):
            self.fail(f"{value[:40]!r} is no duration: write 90s, 10m, 1h30m or 7d", param, ctx)
        parts = _PART.findall(value) or [(value, "s")]
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        if not 0 < seconds <= _LONGEST.total_seconds():
            self.fail(f"{value!r} must lie above zero and below {_LONGEST.days} days", param, ctx)
        return timedelta(seconds=seconds)


class Workload(click.ParamType[WorkloadName]):
    """A workload, written namespace/name. Becomes a WorkloadName."""

    name = "namespace/name"

    def convert(
        self, value: str | WorkloadName, param: click.Parameter | None, ctx: click.Context | None
    ) -> WorkloadName:
        """Read it, or fail with the accepted form."""
        if isinstance(value, WorkloadName):
            return value
        try:
            return WorkloadName.parse(value)
        except SpiffeIdMalformed as error:
            self.fail(str(error), param, ctx)


class Address(click.ParamType[HostPort]):
    """Where something is reached, written HOST:PORT. Becomes a HostPort."""

    name = "host:port"

    def convert(self, value: str | HostPort, param: click.Parameter | None, ctx: click.Context | None) -> HostPort:
        """Read it, or fail with the accepted form."""
        if isinstance(value, HostPort):
            return value
        try:
            return HostPort.parse(value, "address")
        except SettingRefused as error:
            self.fail(str(error), param, ctx)
