"""The definitions of the three kinds say what the policy model says, and let everything else through to its reader."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.resources.objects import PLURALS
from control_plane.resources.planning import verdict
from control_plane.resources.statuses import status_of
from mesh.policy import Default, Document, Mode, Mtls, PolicyFaults, read_policies
from mesh.policy.model import API_VERSION
from mesh.policy.reading import KINDS
from tests.control_plane.resources.test_planning import item, key, read, stored
from tests.control_plane.resources.test_statuses import NOW, enforcement

TEMPLATES = Path(__file__).parents[3] / "helm" / "doorward" / "templates"
STRANGE = "zzzzzzzz"
LEAVES = {"string": "a", "integer": 1, "boolean": True}


def definition(kind: str) -> dict[str, Any]:
    """The chart's template, without its condition."""
    lines = (TEMPLATES / f"crd-{PLURALS[kind]}.yaml").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("{{- if .Values.crds.install }}", "{{- end }}")
    found: dict[str, Any] = yaml.safe_load("\n".join(lines[1:-1]))
    return found


def schema(kind: str) -> dict[str, Any]:
    (version,) = definition(kind)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def below(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of a schema, such as `spec.from[0].workload`, and what stands there."""
    yield path, found
    for name, each in found.get("properties", {}).items():
        yield from below(each, f"{path}.{name}" if path else name)
    if "items" in found:
        yield from below(found["items"], f"{path}[0]")


def of_documents(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The places that become part of a document."""
    return ((path, each) for path, each in below(schema(kind)) if not path.startswith(("status", "metadata")))


def filled(found: dict[str, Any]) -> Any:
    """A value with every key of a schema, and a strange one in each map."""
    if found["type"] == "object":
        return {**{name: filled(each) for name, each in found.get("properties", {}).items()}, STRANGE: 1}
    return [filled(found["items"])] if found["type"] == "array" else LEAVES[found["type"]]


def known_keys(kind: str) -> dict[str, set[str]]:
    """The keys that the reader knows in each map, by the map's path: it names them where one is strange."""
    document = {**filled(schema(kind)), "apiVersion": API_VERSION, "kind": kind}
    with pytest.raises(PolicyFaults) as refused:
        read_policies([Document("test", 0, document)])
    faults = [each for each in refused.value.faults if each.path.endswith(STRANGE)]
    return {each.path.removesuffix(STRANGE).rstrip("."): set(re.findall(r"'([^']+)'", each.message)) for each in faults}


def test_every_kind_has_a_definition_under_the_names_that_are_asked_for() -> None:
    assert tuple(PLURALS) == KINDS
    for kind, plural in PLURALS.items():
        found = definition(kind)
        names = found["spec"]["names"]
        assert (names["kind"], names["plural"], names["singular"]) == (kind, plural, kind.lower())
        assert found["metadata"]["name"] == f"{plural}.{found['spec']['group']}"
        assert f"{found['spec']['group']}/{found['spec']['versions'][0]['name']}" == API_VERSION
        assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert found["spec"]["versions"][0]["subresources"] == {"status": {}}


def test_the_two_policies_have_one_schema() -> None:
    allow, deny = schema("AllowPolicy"), schema("DenyPolicy")
    assert allow["properties"]["spec"] == deny["properties"]["spec"]
    assert allow["properties"]["status"] == deny["properties"]["status"]
    assert allow["properties"]["status"] == schema("NamespaceDefaults")["properties"]["status"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_has_the_keys_that_the_reader_knows(kind: str) -> None:
    maps = {path: set(each.get("properties", {})) for path, each in of_documents(kind) if each["type"] == "object"}
    known = known_keys(kind)
    assert known.pop("metadata") == {"name", "namespace"}  # the rest of it is Kubernetes' own
    assert known.keys() == maps.keys()
    for path, keys in known.items():
        assert maps[path] - {"status"} == keys, path


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_requires_what_the_reader_requires(kind: str) -> None:
    def missing(content: dict[str, Any]) -> set[str]:
        with pytest.raises(PolicyFaults) as refused:
            read_policies([Document("test", 0, content)])
        return {each.path.rpartition(".")[2] for each in refused.value.faults if each.message == "is missing"}

    spec = schema(kind)["properties"]["spec"]
    metadata = {"name": "defaults", "namespace": "shop"}
    content = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": {}}
    assert missing({key: each for key, each in content.items() if key != "spec"}) == set(schema(kind)["required"])
    if kind == "NamespaceDefaults":
        assert "required" not in spec
        return
    assert missing(content) == set(spec["required"])
    assert missing({**content, "spec": {"to": {}, "from": []}}) == set(spec["properties"]["to"]["required"])


def test_a_schema_has_the_words_of_the_model() -> None:
    words = {path: set(each["enum"]) for kind in KINDS for path, each in of_documents(kind) if "enum" in each}
    assert words == {"spec.mode": {*Mode}, "spec.default": {*Default}, "spec.mtls": {*Mtls}}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_was_written_is_dropped_before_the_reader_sees_it(kind: str) -> None:
    """Law 11: unknown keys are kept, an empty value stays one, and an empty list is refused."""
    places = dict(of_documents(kind))
    for path, each in places.items():
        if each["type"] == "object":
            assert each["x-kubernetes-preserve-unknown-fields"] is True, path
            for name, inner in each.get("properties", {}).items():
                fixed = not path and name in ("apiVersion", "kind", "metadata", "status")
                assert fixed or inner.get("nullable", False) is (name not in each.get("required", ())), f"{path}.{name}"
        elif each["type"] == "array":
            assert each["minItems"] == 1, path


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_explained(kind: str) -> None:
    for path, each in below(schema(kind)):
        is_item = path.endswith("]")  # its list says what it is
        assert path == "metadata" or is_item or len(each.get("description", "")) > 10, path


def test_a_status_fits_its_schema() -> None:
    reading = read(item("a", 2, htttp=[]))[key("a")]
    have = stored("a")
    status = status_of(reading, verdict(reading, have), have, enforcement(1, 2), NOW)
    assert status is not None
    properties = schema("AllowPolicy")["properties"]["status"]["properties"]
    assert status.keys() == properties.keys()
    for each in status["conditions"]:
        assert each.keys() == properties["conditions"]["items"]["properties"].keys()
    for each in status["faults"]:
        assert each.keys() == properties["faults"]["items"]["properties"].keys()
    assert status["sidecars"].keys() == properties["sidecars"]["properties"].keys()
