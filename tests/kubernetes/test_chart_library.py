"""The library chart puts into a pod what the injector would put there."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.injector.patch import Injected, Skipped, inject
from control_plane.injector.settings_file import KEYS, read_settings
from control_plane.injector.standing import Skip
from tests.support.charts import CLASSIC, LIBRARY, NEWEST, HelmRefused, Values, example_chart, render
from tests.support.kubernetes_schemas import faults
from tests.support.pod_security import violations

DEFAULTS = yaml.safe_load((LIBRARY / "values.yaml").read_text())


def example(directory: Path, settings: Values, *, kubernetes: str = NEWEST, **options: Any) -> dict[str, Any]:
    """The example's pod, with these settings of the library and options of its own."""
    values = {"doorward-sidecar": settings, **options}
    return render(values, chart=example_chart(directory), kubernetes=kubernetes).one("Pod", "web")


def plain(value: Any) -> Any:
    """The same with DOORWARD_PROBES read, since JSON may be written in more than one way."""
    if isinstance(value, dict):
        if value.get("name") == "DOORWARD_PROBES":
            return {"name": "DOORWARD_PROBES", "value": json.loads(value["value"])}
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def test_its_values_are_the_keys_of_the_injectors_file() -> None:
    assert DEFAULTS.keys() == set(KEYS)
    given = {key: value for key, value in DEFAULTS.items() if key != "image"}
    assert read_settings(yaml.safe_dump(given), "values.yaml") == read_settings("", "nothing")


@pytest.mark.parametrize(
    ("settings", "annotations", "options"),
    [
        pytest.param({}, {}, {}, id="default"),
        pytest.param({"nativeSidecar": False}, {}, {}, id="classic"),
        pytest.param({"nativeSidecar": False, "drainSeconds": 60}, {}, {}, id="classic, a long drain"),
        pytest.param({"nativeSidecar": False}, {}, {"grace": 10}, id="classic, a short grace"),
        pytest.param({"nativeSidecar": False}, {}, {"grace": 0}, id="classic, no grace"),
        pytest.param({}, {}, {"grace": 10}, id="native, a short grace"),
        pytest.param(
            {
                "image": "r.example/doorward-sidecar:9",
                "imagePullPolicy": "Always",
                "controlPlane": "doorward.mesh.svc:7443",
                "trustDomain": "shop.example",
                "sidecarUid": 2000,
                "ports": {"inbound": 25006, "outbound": 25001, "observe": 25020},
                "tokenAudience": "shop",
                "tokenExpirationSeconds": 600,
                "trustBundle": "other",
                "meshCIDRs": ["10.0.0.0/8", "fd00::/8"],
                "egress": "registry-only",
                "excludeInboundPorts": [9090, "9000-9010"],
                "excludeOutboundPorts": [53],
                "excludeOutboundAddresses": ["192.0.2.0/24"],
                "resources": {
                    "sidecar": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                    "redirect": {"requests": {"cpu": "20m", "memory": "50Mi"}, "limits": {"memory": "60Mi"}},
                },
                "logLevel": "debug",
                "requestLog": "denied",
                "drainSeconds": 5,
            },
            {},
            {},
            id="everything else",
        ),
        pytest.param(
            {},
            {
                "doorward.dev/redirect": "disabled",
                "doorward.dev/inbound": "0.0.0.0:8443=127.0.0.1:8080/http",
                "doorward.dev/outbound": "unix:/run/$x=shop/api:80 127.0.0.1:9001=shop/db:5432",
            },
            {
                "redirect": False,
                "inbound": ["0.0.0.0:8443=127.0.0.1:8080/http"],
                "outbound": ["unix:/run/$x=shop/api:80", "127.0.0.1:9001=shop/db:5432"],
            },
            id="without NET_ADMIN",
        ),
    ],
)
def test_a_chart_that_uses_it_gets_what_the_injector_makes(
    tmp_path: Path, settings: dict[str, Any], annotations: dict[str, str], options: dict[str, Any]
) -> None:
    (tmp_path / "mesh").mkdir()
    rendered = example(tmp_path / "mesh", settings, **options)
    pod = example(tmp_path, {}, mesh=False, grace=options.get("grace"))
    pod["metadata"]["annotations"] |= annotations
    file = {**DEFAULTS, "image": f"doorward-sidecar:{version('doorward')}", **settings}
    injected = inject(pod, "shop", read_settings(yaml.safe_dump(file), "values"))
    assert isinstance(injected, Injected), injected
    for annotation in annotations:
        del injected.pod["metadata"]["annotations"][annotation]
    assert plain(rendered) == plain(injected.pod)


def test_the_injector_leaves_such_a_pod_alone(tmp_path: Path) -> None:
    assert inject(example(tmp_path, {}), "shop", read_settings("", "nothing")) == Skipped(Skip.INJECTED)


@pytest.mark.parametrize("kubernetes", [*CLASSIC[:1], "1.29", NEWEST])
def test_the_pod_is_valid_and_only_the_redirection_is_more_than_restricted(tmp_path: Path, kubernetes: str) -> None:
    pod = example(tmp_path, {"nativeSidecar": kubernetes not in CLASSIC}, kubernetes=kubernetes)
    assert faults(pod, kubernetes) == []
    ours = [each for each in violations(pod["spec"]) if "/doorward-" in each]
    assert {each.partition(":")[0] for each in ours} == {"initContainers/doorward-redirect"}


def test_a_native_sidecar_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(HelmRefused, match=r"doorward-sidecar.nativeSidecar needs Kubernetes 1.29"):
        example(tmp_path, {}, kubernetes="1.28")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("settings", "options", "wrong"),
    [
        ({}, {"grace": "soon"}, 'terminationGracePeriodSeconds is "soon"'),
        ({}, {"grace": "10"}, 'terminationGracePeriodSeconds is "10"'),
        ({}, {"grace": 7.5}, "terminationGracePeriodSeconds is 7.5"),
        ({}, {"grace": [10]}, "terminationGracePeriodSeconds is [10]"),
        ({}, {"grace": True}, "terminationGracePeriodSeconds is true"),
        ({"drainSeconds": None}, {}, "doorward-sidecar.drainSeconds is null"),
        ({"drainSeconds": "soon"}, {}, "drainSeconds"),
        ({"drainSeconds": 0}, {}, "drainSeconds"),
    ],
)
def test_seconds_that_are_none_are_refused_and_not_taken_for_the_least(
    tmp_path: Path, native: bool, settings: Values, options: Values, wrong: str
) -> None:
    with pytest.raises(HelmRefused) as refused:
        example(tmp_path, {"nativeSidecar": native, **settings}, **options)
    assert wrong in str(refused.value)
