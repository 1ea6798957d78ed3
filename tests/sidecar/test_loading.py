"""Settings come from flags, environment and TOML, in that order, and everything wrong with them is said at once."""

from pathlib import Path

import pytest

from certs.spiffe import TrustDomain, WorkloadName
from sidecar.loading import SettingsFault, load
from sidecar.settings import Address, Inbound, Outbound, Settings

REQUIRED = {
    "workload": ["shop/checkout"],
    "control_plane": ["127.0.0.1:7443"],
    "bundle": ["bundle.pem"],
    "token_file": ["token"],
}


def faults(flags=None, environ=None, toml=None) -> list[str]:
    with pytest.raises(SettingsFault) as caught:
        load({**REQUIRED, **(flags or {})}, environ or {}, toml or {})
    return [str(fault) for fault in caught.value.faults]


def test_the_required_settings_alone_are_enough() -> None:
    settings = load(REQUIRED, {}, {})
    assert settings == Settings(
        WorkloadName("shop", "checkout"), Address("127.0.0.1", 7443), Path("bundle.pem"), token_file="token"
    )
    assert str(settings.identity) == "spiffe://cluster.local/ns/shop/sa/checkout"


def test_flags_win_over_environment_and_environment_over_toml() -> None:
    toml = {"request_log": "off", "log_level": "error", "trust_domain": "toml.example"}
    environ = {"DOORWARD_REQUEST_LOG": "denied", "DOORWARD_LOG_LEVEL": "warning"}
    settings = load({**REQUIRED, "request_log": ["all"]}, environ, toml)
    assert settings.request_log == "all"
    assert settings.log_level == "warning"
    assert settings.trust_domain == TrustDomain("toml.example")


def test_a_list_is_replaced_as_a_whole_not_added_up() -> None:
    toml = {"outbound": ["127.0.0.1:9001=shop/payments:8080", "127.0.0.1:9002=shop/stock:8080"]}
    settings = load(REQUIRED, {"DOORWARD_OUTBOUND": "127.0.0.1:9003=shop/mail:25"}, toml)
    assert settings.outbound == (Outbound(Address("127.0.0.1", 9003), WorkloadName("shop", "mail"), 25),)


def test_an_empty_variable_empties_a_list() -> None:
    toml = {"outbound": ["127.0.0.1:9001=shop/payments:8080"]}
    assert load(REQUIRED, {"DOORWARD_OUTBOUND": ""}, toml).outbound == ()


def test_one_variable_holds_several_values_and_keeps_their_options() -> None:
    text = "0.0.0.0:8443=127.0.0.1:8080/http,port=80,0.0.0.0:8444=127.0.0.1:5432/tcp"
    settings = load(REQUIRED, {"DOORWARD_INBOUND": text}, {})
    assert settings.inbound == (
        Inbound(Address("0.0.0.0", 8443), Address("127.0.0.1", 8080), "http", 80),
        Inbound(Address("0.0.0.0", 8444), Address("127.0.0.1", 5432), "tcp"),
    )
    assert [inbound.port for inbound in settings.inbound] == [80, 5432]


def test_limits_are_read_from_all_three_places() -> None:
    settings = load(
        {**REQUIRED, "dial_timeout": ["500ms"]},
        {"DOORWARD_HEAD_BYTES": "16KiB"},
        {"limits": {"max_connections": 7, "drain_timeout": "1m"}},
    )
    limits = settings.limits
    assert (limits.dial_timeout, limits.head_bytes, limits.max_connections) == (0.5, 16384, 7)
    assert limits.drain_timeout == 60


def test_everything_missing_is_named_with_all_three_ways_to_give_it() -> None:
    with pytest.raises(SettingsFault) as caught:
        load({}, {}, {})
    texts = [str(fault) for fault in caught.value.faults]
    assert [text.split(":")[0] for text in texts] == ["--workload", "--control-plane", "--bundle", "--token-file"]
    assert "DOORWARD_WORKLOAD" in texts[0]
    assert "shop/checkout" in texts[0]


def test_all_faults_of_all_three_places_are_reported_at_once() -> None:
    found = faults(
        {"inbound": ["0.0.0.0:8443=127.0.0.1:8080/htp"], "request_log": ["some"]},
        {"DOORWARD_DIAL_TIMEOUT": "soon"},
        {"limits": {"head_bytes": 12}, "log_level": True, "inbond": []},
    )
    assert len(found) == 6
    whole = "\n".join(found)
    assert "--inbound: '0.0.0.0:8443=127.0.0.1:8080/htp': protocol 'htp' is none of http, tcp, auto; write " in whole
    assert "--request-log: 'some': is none of them; write all, denied, off" in whole
    assert "DOORWARD_DIAL_TIMEOUT: 'soon': is no duration above zero; write a duration" in whole
    assert "`limits.head_bytes` in the TOML file: '12': is no size of at least 1 KiB" in whole
    assert "`log_level` in the TOML file: is no string" in whole
    assert "`inbond` in the TOML file: is unknown; did you mean `inbound`?" in whole


def test_a_limit_outside_its_table_is_sent_there() -> None:
    assert faults(toml={"dial_timeout": 3}) == [
        "`dial_timeout` in the TOML file: is unknown; did you mean `limits.dial_timeout`?"
    ]


def test_a_string_where_a_list_belongs_is_refused() -> None:
    (text,) = faults(toml={"outbound": "127.0.0.1:9001=shop/payments:8080"})
    assert "is no list of strings" in text


def test_a_single_setting_given_twice_is_refused() -> None:
    assert faults({"workload": ["shop/checkout", "shop/payments"]}) == ["--workload: is given 2 times; once is enough"]


def test_two_listeners_in_one_place_are_refused() -> None:
    (text,) = faults({"outbound": ["127.0.0.1:9001=a/b:1", "127.0.0.1:9001=a/c:1"]})
    assert "127.0.0.1:9001 is taken by another listener" in text
    assert faults({"inbound": ["0.0.0.0:15020=127.0.0.1:8080/http"]})
    (text,) = faults({"outbound": ["unix:/run/one=a/b:1", "unix:/run/one=a/c:1", "unix:/run/two=a/b:2"]})
    assert "/run/one is taken by another listener" in text


def test_port_zero_never_collides() -> None:
    settings = load({**REQUIRED, "outbound": ["127.0.0.1:0=a/b:1", "127.0.0.1:0=a/c:1"]}, {}, {})
    assert len(settings.outbound) == 2


@pytest.mark.parametrize("application", ["127.0.0.1:8443", "127.0.0.1:15020", "localhost:15020", "127.0.0.1:9001"])
def test_an_application_that_is_doorward_itself_is_refused(application: str) -> None:
    found = faults({"inbound": [f"0.0.0.0:8443={application}/http"], "outbound": ["127.0.0.1:9001=a/b:1"]})
    assert any("is a listener of this sidecar" in text for text in found)


def test_one_port_cannot_speak_two_protocols() -> None:
    (text,) = faults({"inbound": ["0.0.0.0:1=127.0.0.1:80/http", "0.0.0.0:2=127.0.0.1:80/tcp"]})
    assert "port 80 is declared http and tcp" in text


def test_transparent_mode_is_switched_on_by_its_flag_alone_or_in_words() -> None:
    assert load({**REQUIRED, "transparent": ["true"]}, {}, {}).transparent
    assert load(REQUIRED, {"DOORWARD_TRANSPARENT": "true"}, {}).transparent
    assert load(REQUIRED, {}, {"transparent": True}).transparent
    assert not load(REQUIRED, {"DOORWARD_TRANSPARENT": "false"}, {"transparent": True}).transparent
    (fault,) = faults(environ={"DOORWARD_TRANSPARENT": "yes"})
    assert fault == "DOORWARD_TRANSPARENT: 'yes': is neither; write true or false"


def test_what_only_transparent_mode_heeds_is_refused_without_it() -> None:
    given = {"ports": ["8080/http"], "mesh_cidrs": ["10.0.0.0/8"], "egress": ["registry-only"]}
    assert {fault.partition(":")[0] for fault in faults(given)} == {"--ports", "--mesh-cidrs", "--egress"}
    settings = load({**REQUIRED, **given, "transparent": ["true"]}, {}, {})
    assert [str(port) for port in settings.ports] == ["8080/http"]
    assert [str(cidr) for cidr in settings.mesh_cidrs] == ["10.0.0.0/8"]


@pytest.mark.parametrize("name", ["ports", "mesh_cidrs", "egress", "transparent_inbound_port"])
def test_a_wrong_word_of_transparent_mode_says_what_to_write(name: str) -> None:
    (fault,) = faults({"transparent": ["true"], name: ["10.0.0.7/8"]})
    assert fault.startswith(f"--{name.replace('_', '-')}: '10.0.0.7/8': ")
    assert "; write " in fault


def test_a_listener_where_redirected_connections_arrive_is_refused() -> None:
    transparent = {"transparent": ["true"], "inbound": ["0.0.0.0:15006=127.0.0.1:8080/http"]}
    (fault,) = faults(transparent)
    assert "15006 is taken by another listener of this sidecar" in fault


def test_a_declared_port_speaks_one_protocol() -> None:
    (fault,) = faults({"transparent": ["true"], "ports": ["8080/http", "8080/tcp"]})
    assert fault == "--ports: port 8080 is declared http and tcp; write one"


@pytest.mark.parametrize("port", ["15006", "15001", "15020", "8443"])
def test_a_declared_port_is_the_applications_and_no_listener_of_the_sidecar(port: str) -> None:
    (fault,) = faults(
        {"transparent": ["true"], "ports": [f"{port}/http"], "inbound": ["0.0.0.0:8443=127.0.0.1:8080/http"]}
    )
    assert fault == f"--ports: {port}/http is a listener of this sidecar; write a port where the application listens"


def test_an_outbound_listener_that_others_could_use_is_refused() -> None:
    (text,) = faults({"outbound": ["0.0.0.0:9001=shop/payments:8080"]})
    assert "lend this workload's identity" in text


def test_waits_that_shrink_are_refused() -> None:
    (text,) = faults({"backoff_initial": ["1h"]})
    assert "longer than backoff_max" in text


def test_a_long_wrong_value_is_shown_shortened() -> None:
    (text,) = faults({"workload": ["x" * 10_000]})
    assert len(text) < 500
