"""values.yaml, values.schema.json and what reads them say the same. Needs no Helm."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from attrs import fields
from jsonschema import Draft7Validator

from control_plane.cli.settings import SETTINGS
from control_plane.injector.settings_file import KEYS, read_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "doorward"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
PRODUCTION = yaml.safe_load((CHART / "values-production.yaml").read_text())

OPEN = {"global", "affinity", "tolerations[]"}
"""What Helm and Kubernetes define, and check."""
DERIVED = {"image", "imagePullPolicy", "controlPlane", "trustDomain", "trustBundle", "tokenAudience"}
"""Keys of the injector's file that the chart fills from other values."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its `$ref` replaced by what that stands for."""
    for reference in [schema, *schema.get("allOf", [])]:
        if "$ref" in reference:
            return SCHEMA["definitions"][reference["$ref"].rpartition("/")[2]] | {
                key: value for key, value in schema.items() if key not in ("$ref", "allOf")
            }
    return schema


def places(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place in the values, and its schema."""
    schema = resolved(schema)
    yield path, schema
    for key, below in schema.get("properties", {}).items():
        yield from places(below, f"{path}.{key}".lstrip("."))
    if "items" in schema:
        yield from places(schema["items"], f"{path}[]")


def given(value: object, path: str = "") -> Iterator[str]:
    """Every place that these values fill."""
    yield path
    if isinstance(value, dict) and path not in ("nodeSelector", "monitoring.dashboard.labels"):
        for key, below in value.items():
            yield from given(below, f"{path}.{key}".lstrip("."))


PLACES = dict(places(SCHEMA))


def test_the_schema_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("values", [VALUES, PRODUCTION], ids=["default", "production"])
def test_the_values_that_we_ship_fit_the_schema(values: dict[str, Any]) -> None:
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(values)] == []


def test_every_value_has_its_place_in_the_schema_and_every_place_its_value() -> None:
    optional = re.compile(
        r"global|.*\[\].*|settings\..*"  # nothing is there unless somebody writes it
        r"|.*resources.*\.(cpu|memory|ephemeral-storage)"
    )
    values = set(given(VALUES))
    assert values - PLACES.keys() == set()
    assert {path for path in PLACES.keys() - values if not optional.fullmatch(path)} == set()
    assert set(given(PRODUCTION)) - PLACES.keys() == set()


@pytest.mark.parametrize("path", [path for path in PLACES if path not in OPEN])
def test_a_place_takes_what_it_knows_and_nothing_else(path: str) -> None:
    schema = PLACES[path]
    if schema.get("type") == "object":
        below = schema.get("additionalProperties")
        assert below is False or below == {"type": "string"}
    elif "string" in schema.get("type", ()):
        assert schema.get("pattern")
    elif "integer" in schema.get("type", ()):
        assert {"minimum", "maximum"} <= schema.keys()
    elif schema.get("type") == "array":
        assert "items" in schema
    else:
        assert schema.get("enum") or schema.get("type") == "boolean"
    if path:
        assert schema.get("description")


def test_settings_are_those_of_the_command_and_of_their_kinds() -> None:
    wanted = {each.option.removeprefix("--"): each for each in SETTINGS if each.where in ("lifetime", "limit")}
    declared = SCHEMA["properties"]["settings"]["properties"]
    assert declared.keys() == wanted.keys()
    for name, schema in declared.items():
        setting = wanted[name]
        kind = "count" if isinstance(setting.kind, click.IntRange) else "duration"
        assert schema["allOf"] == [{"$ref": f"#/definitions/{kind}"}], name
        assert schema["description"] == setting.meaning
        assert Draft7Validator(resolved(schema)).is_valid(
            int(setting.default) if kind == "count" else setting.default
        ), name


def test_the_injectors_values_are_the_keys_of_its_file() -> None:
    assert VALUES["injector"].keys() == set(KEYS) - DERIVED
    assert set(KEYS) >= DERIVED


def test_the_injectors_values_are_its_own_defaults() -> None:
    read, own = read_settings(yaml.safe_dump(VALUES["injector"]), "values.yaml"), read_settings("", "nothing")
    assert {each.name: getattr(read, each.name) for each in fields(type(own))} == {
        each.name: getattr(own, each.name) for each in fields(type(own))
    }


def test_the_charts_carry_the_version_of_the_program() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for chart in sorted((ROOT / "helm").glob("*/Chart.yaml")):
        about = yaml.safe_load(chart.read_text())
        assert (about["version"], about["appVersion"]) == (version, version), chart
