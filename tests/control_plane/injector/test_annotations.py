"""A pod's annotations: each wrong value is refused by its name with what is accepted, and so is what contradicts."""

import pytest
from attrs import evolve

from control_plane.injector.annotations import ANNOTATIONS, read
from control_plane.injector.settings import InjectorSettings

SETTINGS = InjectorSettings()


def faults(settings: InjectorSettings = SETTINGS, **annotations: object) -> dict[str, str]:
    named = {f"doorward.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    _, found = read(named, settings)
    return {
        fault.path.removeprefix("metadata.annotations[doorward.dev/").removesuffix("]"): fault.message
        for fault in found
    }


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_a_wrong_value_is_refused_with_what_is_accepted(name: str) -> None:
    found = faults(**{name: "#"})
    assert list(found) == [name]
    assert found[name].endswith(f"write {ANNOTATIONS[name].kind.accepted}")
    assert "'#'" in found[name]
    assert list(faults(**{name: 80})) == [name]


def test_every_wrong_one_of_several_values_is_named() -> None:
    _, found = read({"doorward.dev/ports": "80/ftp,81/http x"}, SETTINGS)
    assert [fault.message.split(" is ")[0] for fault in found] == ["'80/ftp'", "'x'"]


def test_a_long_wrong_value_is_cut() -> None:
    assert len(faults(ports="x" * 10_000)["ports"]) < 400


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("port", "did you mean doorward.dev/ports?"),
        ("inject", "is a label"),
        ("exclude-inbound-port", "did you mean doorward.dev/exclude-inbound-ports?"),
        ("zzz", "the annotations are ports, exclude-inbound-ports"),
        ("", "the annotations are"),
    ],
)
def test_an_unknown_annotation_is_refused_with_a_hint(name: str, hint: str) -> None:
    assert hint in faults(**{name: "x"})[name]


def test_annotations_of_others_are_theirs() -> None:
    assert read({"example.com/ports": "x", "doorward": "x", "doorward.dev/injected": "0.1.0"}, SETTINGS)[1] == []


@pytest.mark.parametrize(
    ("annotations", "name", "message"),
    [
        (
            {"redirect": "disabled", "ports": "80/http"},
            "ports",
            "means nothing where doorward.dev/redirect is disabled",
        ),
        ({"redirect": "disabled", "egress": "allow"}, "egress", "means nothing"),
        ({"exclude_inbound_ports": "15000-15010"}, "exclude-inbound-ports", "15001 is a port of the sidecar itself"),
        ({"ports": "15020/http"}, "ports", "15020/http is a port of the sidecar itself"),
        ({"ports": "8443/http", "inbound": "0.0.0.0:8443=127.0.0.1:80/http"}, "ports", "port of the sidecar itself"),
        ({"ports": "80/http", "exclude_inbound_ports": "80"}, "ports", "is an excluded inbound port too"),
        ({"ports": "9090/http"}, "ports", "is an excluded inbound port too"),
        ({"ports": "80/http,80/tcp"}, "ports", "port 80 is declared http and tcp"),
        ({"ports": "80/tcp", "inbound": "0.0.0.0:8443=127.0.0.1:80/http"}, "ports", "port 80 is declared http and tcp"),
        ({"inbound": "0.0.0.0:15006=127.0.0.1:80/http"}, "inbound", "15006 is taken by another listener"),
        ({"inbound": "0.0.0.0:81=a:80/http [::]:81=a:80/http"}, "inbound", "81 is taken by another listener"),
        ({"inbound": "0.0.0.0:81=a:80/http", "outbound": "127.0.0.1:81=a/b:1"}, "outbound", "81 is taken"),
        ({"inbound": "0.0.0.0:81=127.0.0.1:15020/http"}, "inbound", "15020 is a listener of this sidecar"),
        ({"inbound": "0.0.0.0:81=a:1/tcp,port=80 0.0.0.0:82=b:80/http"}, "inbound", "80 is declared tcp and http"),
        ({"cpu_request": "2", "cpu_limit": "500m"}, "cpu-request", "is above doorward.dev/cpu-limit"),
    ],
)
def test_what_the_sidecar_would_refuse_later_is_refused_now(
    annotations: dict[str, str], name: str, message: str
) -> None:
    found = faults(evolve(SETTINGS, exclude_inbound_ports=("9090",)), **annotations)
    assert list(found) == [name]
    assert message in found[name]


@pytest.mark.parametrize(
    "annotations",
    [
        {"inbound": "127.0.0.1:81=a:80/http [::1]:81=a:80/http"},
        {"inbound": "0.0.0.0:80=10.0.0.9:80/http"},
        {"outbound": "unix:/a=a/b:1 unix:/b=a/b:1 127.0.0.1:9001=a/b:1"},
        {"ports": "80/http, 80/http", "inbound": "0.0.0.0:8443=127.0.0.1:80/http"},
        {"redirect": "enabled", "egress": "registry-only"},
        {"ports": "", "exclude_outbound_ports": "", "inbound": " "},
    ],
)
def test_what_goes_together_is_taken(annotations: dict[str, str]) -> None:
    assert faults(**annotations) == {}
