"""Durations and workloads as people write them."""

from datetime import timedelta

import click
import pytest

from certs.spiffe import WorkloadName
from control_plane.cli.parameters import Duration, Workload


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604800), ("500ms", 0.5), ("1.5h", 5400)],
)
def test_a_duration_is_read(text, seconds):
    assert Duration().convert(text, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "10 m", "10x", "m10", "1e3s", "1h\n", "999999999d", "٣s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_a_workload_is_read():
    assert Workload().convert("shop/checkout", None, None) == WorkloadName("shop", "checkout")


@pytest.mark.parametrize("text", ["checkout", "a/b/c", "shop/", "shop/ch eckout", "../x"])
def test_what_is_no_workload_is_refused(text):
    with pytest.raises(click.BadParameter):
        Workload().convert(text, None, None)
