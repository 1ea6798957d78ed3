"""Real-looking manifests and what becomes of them, word for word; Kubernetes' own schemas agree with all of it.

After a change that is meant: `python tests/control_plane/injector/test_golden.py`, and read the difference.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.injector.containers import CONTAINERS
from control_plane.injector.manifests import read_manifests
from control_plane.injector.offline import inject_manifests
from control_plane.injector.settings_file import read_settings
from control_plane.yaml_core import to_yaml
from tests.support.kubernetes_schemas import faults

GOLDEN = Path(__file__).parent / "golden"
CASES = ("web", "job", "database", "listeners", "classic")
SUPPORTED = tuple(f"1.{minor}" for minor in range(29, 38))


def made(case: str) -> str:
    """The injected manifest; warnings stand above it."""
    settings_file = GOLDEN / f"{case}.settings.yaml"
    text = settings_file.read_text() if settings_file.exists() else "image: registry.example/doorward-sidecar:1.0"
    manifests, wrong = read_manifests((GOLDEN / f"{case}.yaml").read_text(), case)
    outcome = inject_manifests(manifests, "default", read_settings(text, case))
    assert (wrong, outcome.faults) == ([], ())
    warnings = "".join(f"# {note}\n" for note in outcome.notes)
    return warnings + "---\n".join(to_yaml(each.content) for each in outcome.manifests)


@pytest.mark.parametrize("case", CASES)
def test_a_manifest_becomes_what_it_did(case: str) -> None:
    assert made(case) == (GOLDEN / f"{case}.injected.yaml").read_text()


@pytest.mark.parametrize("kubernetes", SUPPORTED)
def test_every_supported_kubernetes_takes_it(kubernetes: str) -> None:
    for case in CASES:
        assert faults(yaml.safe_load(made(case)), kubernetes) == []


@pytest.mark.parametrize("case", CASES)
def test_only_the_redirection_needs_more_than_pod_security_restricted(case: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, container by container."""
    for each in (each for each in containers_of(yaml.safe_load(made(case))) if each["name"] in CONTAINERS):
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["capabilities"]["drop"] == ["ALL"]
        if each["name"] == "doorward-sidecar":
            assert (context["runAsNonRoot"], context["capabilities"].get("add")) == (True, None)


def containers_of(found: Any) -> list[dict[str, Any]]:
    """Every container, however deep it stands."""
    if isinstance(found, dict):
        own = [*found.get("initContainers", ()), *found.get("containers", ())]
        return own + [each for below in found.values() for each in containers_of(below)]
    return []


if __name__ == "__main__":
    for each in CASES:
        (GOLDEN / f"{each}.injected.yaml").write_text(made(each))
