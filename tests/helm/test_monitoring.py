"""Alerts and the dashboard speak of metrics and labels that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.metrics import Metrics as ControlPlaneMetrics
from sidecar.metrics import Metrics as SidecarMetrics
from sidecar.metrics import exposition

FILES = Path(__file__).parents[2] / "helm" / "doorward" / "files"
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]

ADDED = {"namespace", "pod", "instance", "le"}
"""Labels that Prometheus and its operator add."""
METRIC = re.compile(r"\b((?:doorward|process)_[a-z_]+)(?:\{([^}]*)\})?")


def known() -> dict[str, set[str]]:
    """Every metric's name as it is scraped, and its own labels."""
    found: dict[str, set[str]] = {
        name: set() for name in re.findall(r"# HELP (process_\w+)", exposition(SidecarMetrics()).decode())
    }
    for metrics in (ControlPlaneMetrics(), SidecarMetrics()):
        for collector, names in metrics.registry._collector_to_names.items():
            labels = set(getattr(collector, "_labelnames", ()))
            found |= dict.fromkeys(names, labels)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression that is shipped, and where."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']}: {target['refId']}", target["expr"]


EXPRESSIONS = dict(expressions())
each_expression = pytest.mark.parametrize("expression", list(EXPRESSIONS.values()), ids=list(EXPRESSIONS))


@each_expression
def test_an_expression_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    metrics, asked = known(), METRIC.findall(expression)
    assert asked
    allowed = set(ADDED)
    for name, matchers in asked:
        assert name in metrics, name
        allowed |= metrics[name]
        named = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
        assert named <= metrics[name] | ADDED, name
        if name.endswith("_bucket"):
            assert "histogram_quantile" in expression
        elif name.endswith("_total"):
            assert re.search(r"\b(rate|increase)\(" + name, expression)
    for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", listed)) <= allowed


@each_expression
def test_an_expressions_brackets_close(expression: str) -> None:
    depth = 0
    for sign in re.sub(r'"[^"]*"', "", expression):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert expression.count("{") == expression.count("}")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_it_means(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Doorward[A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    aggregated = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    assert shown <= (set(re.split(r",\s*", aggregated[1])) if aggregated else {"namespace", "pod"})


def test_the_panels_do_not_overlap_and_each_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_a_variable_is_filled_from_a_metric_and_label_that_there_are() -> None:
    metrics = known()
    queries = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    assert queries
    for each in queries:
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", each["definition"])
        assert asked is not None
        assert asked[1] in metrics
        assert asked[2] in metrics[asked[1]] | ADDED
        assert each["query"]["query"] == each["definition"]


def test_every_variable_of_the_dashboard_is_defined() -> None:
    defined = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__all", "__rate_interval"}
    assert used == defined
