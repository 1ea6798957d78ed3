"""Kubernetes' own schemas, strict, of every version that the charts support: what is unknown is a fault. Offline."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


def faults(found: dict[str, Any], kubernetes: str) -> list[str]:
    """What that version of Kubernetes (such as "1.37") says against an object. Raises FileNotFoundError for a kind that
    is not Kubernetes' own."""
    validator = _validator(found["apiVersion"], found["kind"], kubernetes)
    return [f"{each.json_path}: {each.message}" for each in validator.iter_errors(found)]


@cache
def _definitions(directory: Path) -> Registry[Any]:
    content = Resource.from_contents(json.loads((directory / "_definitions.json").read_text()))
    return content @ Registry()


@cache
def _validator(api_version: str, kind: str, kubernetes: str) -> Draft202012Validator:
    directory = SCHEMAS / f"v{kubernetes}.0-local-strict"
    group, _, version = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)
    schema = json.loads((directory / f"{name}.json").read_text())
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(directory))
