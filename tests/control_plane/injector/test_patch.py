"""A pod and what it becomes: laws for all pods, and what is skipped, refused and warned of."""

import copy
import re
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from control_plane.injector.containers import CONTAINERS, VOLUMES
from control_plane.injector.patch import Injected, Refused, Skipped, inject
from control_plane.injector.settings import InjectorSettings, Ports
from control_plane.injector.standing import Skip
from control_plane.kubernetes.marks import REDIRECT, SIDECAR
from sidecar.cli import build_parser
from sidecar.loading import load
from sidecar.redirection.flags import FLAGS, read
from sidecar.redirection.rules import Redirection
from sidecar.settings import Settings
from tests.support.examples import examples
from tests.support.pods import container, pod, pods

SETTINGS = InjectorSettings()
CLASSIC = evolve(SETTINGS, native_sidecar=False)
SOMEWHERE_ELSE = InjectorSettings(
    ports=Ports(25006, 25001, 25020),
    sidecar_uid=4711,
    mesh_cidrs=("10.0.0.0/8", "fd00::/8"),
    egress="registry-only",
    exclude_inbound_ports=("9091",),
    exclude_outbound_addresses=("169.254.169.254/32",),
)
ALL_SETTINGS = st.sampled_from([SETTINGS, CLASSIC, SOMEWHERE_ELSE])


def injected(given: dict[str, Any], settings: InjectorSettings = SETTINGS) -> Injected:
    outcome = inject(given, "shop", settings)
    assert isinstance(outcome, Injected), outcome
    return outcome


def ours(outcome: Injected) -> dict[str, dict[str, Any]]:
    spec = outcome.pod["spec"]
    found = [*spec.get("initContainers", ()), *spec["containers"]]
    return {each["name"]: each for each in found if each["name"] in CONTAINERS}


def faults(given: dict[str, Any], settings: InjectorSettings = SETTINGS) -> dict[str, str]:
    outcome = inject(given, "shop", settings)
    assert isinstance(outcome, Refused), outcome
    return {fault.path: fault.message for fault in outcome.faults}


def settings_of(sidecar: dict[str, Any]) -> Settings:
    """What the sidecar itself reads from its environment, as the kubelet expands it."""
    known = {"DOORWARD_POD_NAMESPACE": "shop", "DOORWARD_POD_SERVICE_ACCOUNT": "web"}
    for each in sidecar["env"]:
        text = each.get("value", known.get(each["name"], ""))
        found = re.sub(r"\$\$|\$\(([A-Z_]+)\)", lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]), text)
        known[each["name"]] = found
    return load({}, {name: value for name, value in known.items() if "_POD_" not in name}, {})


def redirection_of(redirect: dict[str, Any]) -> Redirection:
    """What the command means to the program."""
    arguments, unknown = build_parser().parse_known_args(redirect["command"][1:])
    assert (arguments.install, unknown) == (True, [])
    return read({flag.name: texts for flag in FLAGS if (texts := getattr(arguments, flag.name)) is not None})


@given(pods(), ALL_SETTINGS)
@examples(40)
def test_injecting_twice_is_injecting_once(given: dict[str, Any], settings: InjectorSettings) -> None:
    once = injected(given, settings).pod
    assert inject(once, "shop", settings) == Skipped(Skip.INJECTED)


@given(pods(), ALL_SETTINGS)
@examples(40)
def test_the_original_is_untouched_and_whatever_is_not_ours_is_kept(
    given: dict[str, Any], settings: InjectorSettings
) -> None:
    before = copy.deepcopy(given)
    made = injected(given, settings).pod
    assert given == before
    assert without_probes(without_ours(copy.deepcopy(made), before)) == without_probes(before)


@given(pods(), ALL_SETTINGS)
@examples(40)
def test_the_sidecar_and_its_redirection_take_what_they_are_given(
    given: dict[str, Any], settings: InjectorSettings
) -> None:
    found = ours(injected(given, settings))
    read_back = settings_of(found[SIDECAR])
    assert str(read_back.workload) == "shop/web"
    assert read_back.transparent
    redirection = redirection_of(found[REDIRECT])
    assert redirection.inbound_port == read_back.transparent_inbound_port
    assert redirection.outbound_port == read_back.transparent_outbound_port
    assert redirection.sidecar_uid == found[SIDECAR]["securityContext"]["runAsUser"]
    assert any(read_back.observe.port in ports for ports in redirection.exclude_inbound_ports)
    assert [str(each) for each in read_back.mesh_cidrs] == list(settings.mesh_cidrs)
    excluded = redirection.exclude_inbound_ports
    assert not any(declared.port in ports for declared in read_back.ports for ports in excluded)


def without_ours(made: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    spec, metadata = made["spec"], made["metadata"]
    for key, names in (("initContainers", CONTAINERS), ("containers", CONTAINERS), ("volumes", VOLUMES)):
        if key in spec:
            spec[key] = [each for each in spec[key] if each["name"] not in names]
            if not spec[key] and key not in before["spec"]:
                del spec[key]
    del metadata["annotations"]["doorward.dev/injected"]
    if "annotations" not in before["metadata"]:
        assert metadata.pop("annotations") == {}
    return made


def without_probes(pod: dict[str, Any]) -> dict[str, Any]:
    """What probes ask is left out, their timing not."""
    for key in ("initContainers", "containers"):
        for each in pod["spec"].get(key, ()):
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                for how in ("httpGet", "tcpSocket"):
                    each.get(probe, {}).pop(how, None)
            each.get("lifecycle", {}).get("preStop", {}).pop("httpGet", None)
    return pod


def test_a_native_sidecar_starts_behind_the_redirection_and_before_all_else() -> None:
    spec = injected(pod(initContainers=[container("migrate")])).pod["spec"]
    assert [each["name"] for each in spec["initContainers"]] == [REDIRECT, SIDECAR, "migrate"]
    assert spec["initContainers"][1]["restartPolicy"] == "Always"
    assert [each["name"] for each in spec["containers"]] == ["web"]


def test_a_classic_sidecar_is_the_first_container_and_comes_with_a_warning() -> None:
    outcome = injected(pod(initContainers=[container("migrate")], restartPolicy="Never"), CLASSIC)
    spec = outcome.pod["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["migrate", REDIRECT]
    assert [each["name"] for each in spec["containers"]] == [SIDECAR, "web"]
    assert "restartPolicy" not in spec["containers"][0]
    assert [text for text in outcome.warnings if "init containers run before" in text]
    assert [text for text in outcome.warnings if "does not end by itself" in text]


@pytest.mark.parametrize(
    ("grace", "drain"), [(None, 20), (60, 20), (23, 20), (22, 19), (10, 7), (4, 1), (3, 1), (0, 1), (-5, 1)]
)
def test_a_classic_sidecar_drains_within_the_pod_s_grace(grace: int | None, drain: int) -> None:
    outcome = injected(pod(terminationGracePeriodSeconds=grace), CLASSIC)
    assert settings_of(ours(outcome)[SIDECAR]).limits.drain_timeout == drain
    assert any("terminationGracePeriodSeconds" in text for text in outcome.warnings) == (
        grace is not None and grace < 4
    )
    assert outcome.pod["spec"]["terminationGracePeriodSeconds"] == grace


def test_an_init_container_that_would_wait_for_a_classic_sidecar_for_ever_is_refused() -> None:
    own = container("own", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 8081}})
    own["lifecycle"] = {"postStart": {"httpGet": {"port": 8081}}, "preStop": {"httpGet": {"port": 8081}}}
    own["livenessProbe"] = {"httpGet": {"port": 8081}}
    waiting = pod(initContainers=[container("migrate"), own])
    found = faults(waiting, CLASSIC)
    assert found.keys() == {"spec.initContainers[1].startupProbe", "spec.initContainers[1].lifecycle.postStart"}
    assert all("exec" in each and "doorward.dev/exclude-inbound-ports" in each for each in found.values())
    injected(waiting)
    for choice in (
        pod(initContainers=[own], annotations={"doorward.dev/exclude-inbound-ports": "8081"}),
        pod(initContainers=[{**own, "startupProbe": {"exec": {"command": ["true"]}}, "lifecycle": {}}]),
    ):
        injected(choice, CLASSIC)
    here = pod(initContainers=[own], annotations={"doorward.dev/redirect": "disabled"})
    assert not any("exclude" in each for each in faults(here, CLASSIC).values())


def test_a_longer_drain_than_the_usual_grace_is_fitted_too() -> None:
    outcome = injected(pod(), evolve(CLASSIC, drain_seconds=300))
    assert settings_of(ours(outcome)[SIDECAR]).limits.drain_timeout == 27


def test_a_native_sidecar_drains_after_all_others_have_ended_whatever_the_grace() -> None:
    outcome = injected(pod(terminationGracePeriodSeconds=5))
    assert settings_of(ours(outcome)[SIDECAR]).limits.drain_timeout == 20
    assert outcome.warnings == ()


def test_the_sidecar_is_restricted_and_the_redirection_may_change_the_network_and_nothing_else() -> None:
    found = ours(injected(pod(securityContext={"runAsUser": 5, "runAsNonRoot": True})))
    sidecar, redirect = (found[name]["securityContext"] for name in (SIDECAR, REDIRECT))
    assert (sidecar["runAsUser"], sidecar["runAsNonRoot"]) == (1337, True)
    assert (redirect["runAsUser"], redirect["runAsNonRoot"]) == (0, False)
    assert sidecar["capabilities"] == {"drop": ["ALL"]}
    assert redirect["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    for each in (sidecar, redirect):
        assert each["readOnlyRootFilesystem"] is True
        assert each["allowPrivilegeEscalation"] is False
        assert each["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_token_is_bound_to_the_pod_and_readable_by_the_sidecars_user() -> None:
    spec = injected(pod()).pod["spec"]
    token = next(each for each in spec["volumes"] if each["name"] == "doorward-token")["projected"]
    source = {"audience": "doorward", "expirationSeconds": 3600, "path": "token"}
    assert token == {"defaultMode": 0o444, "sources": [{"serviceAccountToken": source}]}
    mounted = [each["name"] for each in spec["containers"] for mount in each.get("volumeMounts", ())]
    assert mounted == []


def test_without_redirection_there_is_no_init_container_and_nothing_is_transparent() -> None:
    listeners = {
        "doorward.dev/redirect": "disabled",
        "doorward.dev/inbound": "0.0.0.0:8443=127.0.0.1:8080/http [::1]:8444=localhost:81/tcp,port=80",
        "doorward.dev/outbound": "127.0.0.1:9001=shop/payments:8080 unix:/tmp/a$(B)=shop/cart:80",
    }
    outcome = injected(pod(annotations=listeners))
    found = ours(outcome)
    assert REDIRECT not in found
    read_back = settings_of(found[SIDECAR])
    assert not read_back.transparent
    assert [str(each) for each in read_back.inbound] == [
        "0.0.0.0:8443=127.0.0.1:8080/http",
        "[::1]:8444=localhost:81/tcp,port=80",
    ]
    assert [str(each) for each in read_back.outbound] == listeners["doorward.dev/outbound"].split()
    assert "only its explicit listeners" in " ".join(outcome.warnings)
    assert "nothing of it" in " ".join(injected(pod(annotations={"doorward.dev/redirect": "disabled"})).warnings)


@pytest.mark.parametrize(
    ("ports", "declared"),
    [
        ([(8080, "http")], "8080/http"),
        ([(8080, "http-admin"), (81, "httpd"), (82, None)], "8080/http 81/auto 82/auto"),
        ([(1, "tcp"), (2, "tcp-x"), (3, "mysql"), (4, "postgres"), (6, "tcpx")], "1/tcp 2/tcp 3/tcp 4/tcp 6/auto"),
        ([(8080, "web"), (8080, "http")], "8080/http"),
        ([], ""),
    ],
)
def test_what_a_port_speaks_is_read_from_its_name(ports: list[tuple[int, str | None]], declared: str) -> None:
    fields = [{"containerPort": port, **({"name": name} if name else {})} for port, name in ports]
    udp = [{"containerPort": 53, "name": "http", "protocol": "UDP"}]
    read_back = settings_of(ours(injected(pod(container(ports=[*fields, *udp]))))[SIDECAR])
    assert " ".join(map(str, read_back.ports)) == declared


def test_ports_come_from_every_container_that_runs_on_but_not_where_they_never_meet_the_sidecar() -> None:
    beside = container("log", ports=[{"containerPort": 2020}], restartPolicy="Always")
    before = container("setup", ports=[{"containerPort": 3000}])
    web = container(ports=[{"containerPort": port} for port in (8080, 9090, 8443)])
    given = pod(
        web,
        annotations={
            "doorward.dev/exclude-inbound-ports": "9000-9100",
            "doorward.dev/inbound": "0.0.0.0:8443=127.0.0.1:8081/http",
        },
        initContainers=[beside, before],
    )
    assert [str(each) for each in settings_of(ours(injected(given))[SIDECAR]).ports] == ["2020/auto", "8080/auto"]


def test_annotations_win_over_names_and_settings_and_exclusions_add_up() -> None:
    given = pod(
        container(ports=[{"containerPort": 8080, "name": "http"}]),
        annotations={
            "doorward.dev/ports": "8080/tcp, 81/http",
            "doorward.dev/egress": "allow",
            "doorward.dev/exclude-inbound-ports": "9092",
            "doorward.dev/exclude-outbound-ports": "25,465-466",
            "doorward.dev/log-level": "debug\n",
            "doorward.dev/request-log": "off",
        },
    )
    found = ours(injected(given, SOMEWHERE_ELSE))
    read_back, redirection = settings_of(found[SIDECAR]), redirection_of(found[REDIRECT])
    assert [str(each) for each in read_back.ports] == ["8080/tcp", "81/http"]
    assert (read_back.egress, read_back.log_level, read_back.request_log) == ("allow", "debug", "off")
    assert [str(each) for each in redirection.exclude_inbound_ports] == ["25020", "9091", "9092"]
    assert [str(each) for each in redirection.exclude_outbound_ports] == ["25", "465-466"]
    assert [str(each) for each in redirection.exclude_outbound_addresses] == ["169.254.169.254/32"]


@pytest.mark.parametrize(
    ("asked", "requests", "limits"),
    [
        ({}, ("50m", "96Mi"), (None, "512Mi")),
        ({"cpu-limit": "10m"}, ("10m", "96Mi"), ("10m", "512Mi")),
        ({"memory-request": "1Gi"}, ("50m", "1Gi"), (None, "1Gi")),
        ({"memory-request": "64Mi", "memory-limit": "0.5Gi", "cpu-request": "1"}, ("1", "64Mi"), (None, "0.5Gi")),
    ],
)
def test_resources_that_were_asked_for_stand_and_the_others_give_way(
    asked: dict[str, str], requests: tuple[str, str], limits: tuple[str | None, str]
) -> None:
    annotations = {f"doorward.dev/{name}": value for name, value in asked.items()}
    resources = ours(injected(pod(annotations=annotations)))[SIDECAR]["resources"]
    assert (resources["requests"].get("cpu"), resources["requests"].get("memory")) == requests
    assert (resources["limits"].get("cpu"), resources["limits"].get("memory")) == limits


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spec": {"hostNetwork": True}}, Skip.HOST_NETWORK),
        ({"spec": {"os": {"name": "windows"}}}, Skip.WINDOWS),
        ({"spec": {"nodeSelector": {"kubernetes.io/os": "windows"}}}, Skip.WINDOWS),
        ({"metadata": {"labels": {"doorward.dev/inject": "disabled"}}}, Skip.OPTED_OUT),
        ({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}, Skip.STATIC_POD),
    ],
)
def test_some_pods_stay_as_they_are(change: dict[str, Any], reason: Skip) -> None:
    given = pod()
    for key, more in change.items():
        given[key] = {**given[key], **more}
    assert inject(given, "shop", SETTINGS) == Skipped(reason)
    assert reason.message


def test_the_systems_namespaces_stay_as_they_are() -> None:
    assert inject(pod(), "kube-system", SETTINGS) == Skipped(Skip.SYSTEM_NAMESPACE)


def test_a_mark_without_the_sidecar_is_no_mark() -> None:
    assert (
        "doorward.dev/injected"
        in injected(pod(annotations={"doorward.dev/injected": "old"})).pod["metadata"]["annotations"]
    )
    clash = pod(container("doorward-redirect"), annotations={"doorward.dev/injected": "1"})
    assert list(faults(clash)) == ["spec.containers[0].name"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (pod(container("doorward-sidecar")), "spec.containers[0].name"),
        (pod(initContainers=[container("doorward-redirect")]), "spec.initContainers[0].name"),
        (pod(volumes=[{"name": "doorward-token"}]), "spec.volumes[0].name"),
        (pod(container(ports=[{"containerPort": 15001}])), "spec.containers[0].ports[0].containerPort"),
        (pod(container(ports=[{"containerPort": 80, "hostPort": 15020}])), "spec.containers[0].ports[0].hostPort"),
        (pod(container(securityContext={"runAsUser": 1337})), "spec.containers[0].securityContext.runAsUser"),
        (pod(securityContext={"runAsUser": 1337}), "spec.securityContext.runAsUser"),
    ],
)
def test_what_collides_with_the_sidecar_is_refused(given: dict[str, Any], path: str) -> None:
    assert list(faults(given)) == [path]


def test_a_label_that_means_nothing_is_refused() -> None:
    given = pod()
    given["metadata"]["labels"] = {"doorward.dev/inject": "false"}
    assert "write disabled" in faults(given)["metadata.labels[doorward.dev/inject]"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    given = pod(
        container(
            securityContext={"runAsUser": 1337},
            livenessProbe={"httpGet": {"port": "nowhere"}},
            readinessProbe={"grpc": {"port": 9000}},
        ),
        annotations={"doorward.dev/prts": "80/http", "doorward.dev/egress": "deny"},
    )
    assert list(faults(given)) == [
        "spec.containers[0].securityContext.runAsUser",
        "metadata.annotations[doorward.dev/prts]",
        "metadata.annotations[doorward.dev/egress]",
        "spec.containers[0].livenessProbe.httpGet.port",
        "spec.containers[0].readinessProbe.grpc",
    ]


@pytest.mark.parametrize(
    ("context", "warned"),
    [
        ({"capabilities": {"add": ["NET_ADMIN"]}}, True),
        ({"capabilities": {"add": ["ALL"]}}, True),
        ({"privileged": True}, True),
        ({"capabilities": {"add": ["NET_BIND_SERVICE"]}, "runAsUser": 0}, False),
        ({}, False),
    ],
)
def test_who_can_go_past_the_sidecar_is_warned_of(context: dict[str, Any], warned: bool) -> None:
    assert bool(injected(pod(container(securityContext=context))).warnings) == warned


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"spec": None},
        {"spec": {}},
        {"spec": {"containers": {}}},
        {"spec": {"containers": [None]}},
        {"spec": {"containers": [{"name": 1}]}},
        {"spec": {"containers": [{}]}},
        {"spec": {"containers": [{"name": "A b"}]}},
        {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": True}]}]}},
        {"spec": {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": 1.5}}}]}},
        {"spec": {"containers": [{"name": "a"}], "hostNetwork": "yes"}},
        {"metadata": [], "spec": {"containers": [{"name": "a"}]}},
        {"metadata": {"annotations": {"doorward.dev/ports": 80}}, "spec": {"containers": [{"name": "a"}]}},
    ],
)
def test_what_is_no_pod_is_refused(wrong: Any) -> None:
    assert faults(wrong)


def test_null_stands_for_absence() -> None:
    given = pod(initContainers=None, volumes=None, securityContext=None)
    given["metadata"]["annotations"] = None
    given["spec"]["containers"][0].update(ports=None, livenessProbe=None, lifecycle=None, securityContext=None)
    assert len(injected(given).pod["spec"]["initContainers"]) == 2
