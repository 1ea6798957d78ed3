"""The setting `probes` is read strictly: every fault has its path, all are said at once, and no header is repeated."""

import json
from typing import Any

import pytest

from sidecar.loading import SettingsFault, load
from sidecar.probe_list import probes
from sidecar.settings import HttpGet, Probe
from tests.sidecar.test_loading import REQUIRED

WHOLE = {
    "name": "web/liveness",
    "http": {"scheme": "HTTPS", "port": 8443, "path": "/healthz?full=1", "headers": [["Host", "web"], ["X-A", "b"]]},
    "host": "probed.example",
    "timeout": 2.5,
}
SHORT = {"name": "web/readiness", "http": {"port": 8080, "path": "/"}}
TCP = {"name": "database/startup", "tcp": {"port": 5432}}


def test_what_is_whole_and_what_is_short() -> None:
    get = HttpGet("HTTPS", "/healthz?full=1", (("Host", "web"), ("X-A", "b")))
    assert probes(json.dumps([WHOLE, SHORT, TCP])) == (
        Probe("web/liveness", 8443, get, "probed.example", 2.5),
        Probe("web/readiness", 8080, HttpGet("HTTP", "/")),
        Probe("database/startup", 5432),
    )
    assert probes("[]") == ()


def http(**changes: Any) -> dict[str, Any]:
    return {**WHOLE, "http": {**WHOLE["http"], **changes}}


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (1, "[0] is no object"),
        ({}, "[0].name is not"),
        ({}, "[0] needs one of http and tcp"),
        ({**WHOLE, "name": "web/alive"}, "[0].name is not"),
        ({**WHOLE, "name": "../liveness"}, "[0].name is not"),
        ({**WHOLE, "name": "web/liveness\n"}, "[0].name is not"),
        ({**WHOLE, "tcp": {"port": 1}}, "[0] needs one of http and tcp"),
        ({**WHOLE, "grpc": {"port": 1}}, "[0].'grpc' is unknown"),
        ({**WHOLE, "host": "a b"}, "[0].host is no host name"),
        ({**WHOLE, "host": None}, "[0].host is no text"),
        ({**WHOLE, "timeout": 0}, "[0].timeout is no number of seconds"),
        ({**WHOLE, "timeout": True}, "[0].timeout is no number of seconds"),
        ({**WHOLE, "timeout": "1s"}, "[0].timeout is no number of seconds"),
        ({**WHOLE, "timeout": 3601}, "[0].timeout is no number of seconds"),
        ({**WHOLE, "http": []}, "[0].http is no object"),
        (http(port="8080"), "[0].http.port is no number"),
        (http(port=True), "[0].http.port is no number"),
        (http(port=65536), "[0].http.port is no number"),
        (http(scheme="https"), "[0].http.scheme is neither"),
        (http(scheme=["HTTP"]), "[0].http.scheme is neither"),
        (http(path="healthz"), "[0].http.path is no path"),
        (http(path="/a b"), "[0].http.path is no path"),
        (http(path="/\r\nX: y"), "[0].http.path is no path"),
        (http(path="/ü"), "[0].http.path is no path"),
        (http(path=None), "[0].http.path is no path"),
        (http(headers={}), "[0].http.headers is no list"),
        (http(headers=[["A"]]), "[0].http.headers[0] is no list of a name and a value"),
        (http(headers=[["A", 1]]), "[0].http.headers[0] is no list of a name and a value"),
        (http(headers=[["A", "b"], ["A b", "c"]]), "[0].http.headers[1] is no header field"),
        (http(headers=[["A", "b\r\nC: d"]]), "[0].http.headers[0] is no header field"),
        (http(method="POST"), "[0].http.'method' is unknown"),
        ({"name": "a/liveness", "tcp": {}}, "[0].tcp.port is no number"),
        ({"name": "a/post-start", "tcp": {"port": 1}}, "[0].tcp is for a hook"),
    ],
)
def test_every_fault_has_its_path(item: object, fault: str) -> None:
    with pytest.raises(ValueError, match=r"\[0\]") as caught:
        probes(json.dumps([item]))
    assert fault in str(caught.value)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"\[0\]") as caught:
        probes(json.dumps([1, {**WHOLE, "timeout": -1}, SHORT, SHORT, http(port=0)]))
    assert [fault.split()[0] for fault in str(caught.value).split("; ")] == [
        "[0]",
        "[1].timeout",
        "[4].http.port",
        "the",
    ]


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "null", "[" * 100_000, '[{"name": "a/liveness", "name": "b/liveness"}]', "[NaN]", "[1e999]"]
)
def test_what_is_no_list_of_probes(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        probes(text)


def test_no_header_gets_into_a_message() -> None:
    secret = [{**SHORT, "http": {"port": 1, "path": "/", "headers": [["Authorization", "Bearer secret\n"]]}}]
    with pytest.raises(SettingsFault) as caught:
        load({**REQUIRED, "probes": [json.dumps(secret)]}, {}, {})
    assert "[0].http.headers[0]" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("host", "port"), [("", 15020), ("127.0.0.1", 15020), ("localhost", 15006)])
def test_a_probe_does_not_ask_the_sidecar_itself(host: str, port: int) -> None:
    probe = {"name": "web/liveness", "tcp": {"port": port}, "host": host}
    flags = {**REQUIRED, "transparent": ["true"], "observe": ["*:15020"], "probes": [json.dumps([probe])]}
    with pytest.raises(SettingsFault, match=f"--probes: web/liveness would ask port {port}, a listener"):
        load(flags, {}, {})
    assert load({**flags, "probes": [json.dumps([TCP])]}, {}, {}).probes == (Probe("database/startup", 5432),)
