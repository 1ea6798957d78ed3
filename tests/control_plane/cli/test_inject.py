"""`doorward inject`: manifests in, manifests out, and what to say of them on standard error."""

import json
from pathlib import Path

import pytest
import yaml

GOLDEN = Path(__file__).parents[1] / "injector" / "golden"

CONFIG_MAP = "# kept\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: 'no', b: \"0644\"}\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: web}]}\n"


def kinds(text: str) -> list[str]:
    return [each["kind"] for each in yaml.safe_load_all(text)]


def is_injected(pod: dict) -> bool:
    return "doorward.dev/injected" in pod["metadata"].get("annotations", {})


def test_it_prints_the_injected_pod_and_other_documents_as_they_were(doorward):
    answer = doorward("inject", "-f", "-", stdin=f"{CONFIG_MAP}---\n{POD}---\nkind: Zed\nx: 2024-01-01\n")
    assert (answer.exit, answer.err) == (0, "")
    assert answer.out.startswith(CONFIG_MAP)
    assert answer.out.endswith("---\nkind: Zed\nx: 2024-01-01\n")
    assert kinds(answer.out) == ["ConfigMap", "Pod", "Zed"]
    assert is_injected(list(yaml.safe_load_all(answer.out))[1])


def test_what_was_injected_stays_as_it_is(doorward):
    once = doorward("inject", "-f", "-", stdin=POD)
    twice = doorward("inject", "-f", "-", stdin=once.out)
    assert twice.out == once.out
    assert "Pod default/web: stays as it is: the pod has its sidecar already" in twice.err


@pytest.mark.parametrize(
    ("api", "kind", "place"),
    [
        ("v1", "Pod", ()),
        ("v1", "ReplicationController", ("spec", "template")),
        *(("apps/v1", kind, ("spec", "template")) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
        ("batch/v1", "Job", ("spec", "template")),
        ("batch/v1", "CronJob", ("spec", "jobTemplate", "spec", "template")),
    ],
)
def test_every_kind_with_a_pod_is_injected_alone_and_in_a_list(doorward, api, kind, place):
    found = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
    for key in reversed(place):
        found = {key: found}
    found = {"apiVersion": api, "kind": kind, **found}
    whole = {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Other"}, found]}
    alone = doorward("inject", "-f", "-", "-o", "json", stdin=json.dumps(found)).json
    listed = doorward("inject", "-f", "-", "-o", "json", stdin=json.dumps(whole)).json
    assert listed["items"] == [{"kind": "Other"}, alone]
    for key in place:
        alone = alone[key]
    assert is_injected(alone)


def test_an_object_of_the_same_kind_in_another_group_is_no_job(doorward):
    text = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {template: x}\n"
    assert doorward("inject", "-f", "-", stdin=text).out == text


def test_several_documents_as_json_are_a_list(doorward, tmp_path):
    (tmp_path / "a.yaml").write_text(POD)
    (tmp_path / "b.json").write_text('{"kind": "Zed"}')
    files = ("-f", str(tmp_path / "a.yaml"), "-f", str(tmp_path / "b.json"))
    answer = doorward("inject", *files, "-o", "json")
    assert answer.json["kind"] == "List"
    assert [each["kind"] for each in answer.json["items"]] == ["Pod", "Zed"]
    assert doorward("-o", "json", "inject", *files).out == answer.out
    assert kinds(doorward("inject", *files).out) == ["Pod", "Zed"]


def test_warnings_and_skips_go_to_standard_error_with_their_object(doorward):
    privileged = POD.replace("image: web", "image: web, securityContext: {privileged: true}")
    host = POD.replace("{containers", "{hostNetwork: true, containers")
    answer = doorward("inject", "-f", "-", "--namespace", "shop", stdin=f"{privileged}---\n{host}")
    assert answer.exit == 0
    assert "warning Pod shop/web: container web is privileged: it can go past the sidecar" in answer.err
    assert "skipped Pod shop/web: stays as it is: the pod uses its node's network" in answer.err


def test_the_namespace_is_the_objects_own_or_the_one_that_is_given(doorward):
    own = POD.replace("{name: web}", "{name: web, namespace: kube-system}")
    assert "Pod kube-system/web: stays as it is" in doorward("inject", "-f", "-", "-n", "shop", stdin=own).err
    assert doorward("inject", "-f", "-", "-n", "kube-system", stdin=POD).out == POD


def test_faults_are_all_said_with_document_path_and_accepted_values_and_nothing_is_printed(doorward, tmp_path):
    wrong = POD.replace("{name: web}", "{name: web, annotations: {doorward.dev/egress: deny, doorward.dev/prts: x}}")
    deployment = "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: []}}}\n"
    (tmp_path / "a.yaml").write_text(f"{CONFIG_MAP}---\n{wrong}---\n{deployment}---\n- x\n---\nkind: A\nkind: B\n")
    answer = doorward("inject", "-f", str(tmp_path / "a.yaml"), "-f", str(tmp_path / "none"))
    assert (answer.exit, answer.out) == (2, "")
    assert "6 faults in the manifests; nothing is printed" in answer.err
    for text in (
        "a.yaml#2 metadata.annotations[doorward.dev/egress]: 'deny' is none of them: write allow or registry-only",
        "a.yaml#2 metadata.annotations[doorward.dev/prts]: is unknown: did you mean doorward.dev/ports?",
        "a.yaml#3 spec.template.spec.containers: is empty",
        "a.yaml#4: is no object of Kubernetes",
        "a.yaml#5: line 19: the key 'kind' stands there twice",
        "none#1: cannot be read: No such file or directory",
    ):
        assert text in answer.err


@pytest.mark.parametrize(("stdin", "message"), [("", "holds no document"), ("--- \n# x\n", "holds no document")])
def test_an_empty_file_is_a_fault(doorward, stdin, message):
    answer = doorward("inject", "-f", "-", stdin=stdin)
    assert (answer.exit, answer.out) == (2, "")
    assert f"stdin#1: {message}" in answer.err


def test_the_settings_are_read_from_the_injectors_own_file(doorward, tmp_path):
    config = tmp_path / "injector.yaml"
    config.write_text("image: registry.example/sidecar:7\nnativeSidecar: false\n")
    answer = doorward("inject", "-f", "-", "--config", str(config), stdin=POD)
    assert yaml.safe_load(answer.out)["spec"]["containers"][0]["image"] == "registry.example/sidecar:7"
    config.write_text("imge: x\negress: deny\n")
    answer = doorward("inject", "-f", "-", "--config", str(config), stdin=POD)
    assert (answer.exit, answer.out) == (2, "")
    assert f"{config}: imge: is unknown" in answer.err
    assert f"{config}: egress: 'deny': write allow or registry-only" in answer.err


def test_neither_a_control_plane_nor_its_libraries_are_needed(doorward, monkeypatch):
    import sys

    for name in ("httpx2", "sqlalchemy", "starlette", "trio", "OpenSSL"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [each for each in sys.modules if each.startswith("control_plane.injector")]:
        monkeypatch.delitem(sys.modules, name)
    assert doorward("inject", "-f", str(GOLDEN / "web.yaml"), "-o", "json").json["kind"] == "Deployment"
