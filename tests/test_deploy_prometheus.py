"""The examples for Prometheus and Grafana: they can be loaded, and name only what the hub gives."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hub.scrapes import Fleet

DIRECTORY = Path(__file__).parents[1] / "deploy" / "prometheus"
METRIC = re.compile(r"\b(?:qubix|DCGM|process)_\w+")


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The names of everything that a hub with a provider gives."""
    fleet = Fleet()
    fleet.add("rig")
    fleet.telemetry.sent("pong")
    return {name for name, _ in fleet.scrape()}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana loads it."""
    loaded: dict[str, Any] = json.loads((DIRECTORY / "grafana-dashboard.json").read_text())
    return loaded


def test_the_dashboard_asks_for_what_there_is(names: set[str], dashboard: dict[str, Any]) -> None:
    """Every metric of every panel, and of the list of providers to choose from."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [
        variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    asked = {name for query in queries for name in METRIC.findall(query)}
    assert all(METRIC.search(query) for query in queries)
    assert asked <= names


def test_the_dashboard_has_its_panels_side_by_side(dashboard: dict[str, Any]) -> None:
    """Numbered once each, within Grafana's 24 columns, none over another."""
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (column, row)
        for grid in (panel["gridPos"] for panel in panels)
        for column in range(grid["x"], grid["x"] + grid["w"])
        for row in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24


def test_prometheus_is_told_where_the_hub_is() -> None:
    """The configuration as it is, and with everything that it offers in comments."""
    text = (DIRECTORY / "prometheus.yml").read_text()
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job == {
        "job_name": "qubix",
        "scrape_interval": "15s",
        "static_configs": [{"targets": ["localhost:3001"]}],
    }
    offered = re.sub(
        r"^(    )# (?=scheme:|authorization:|  |metric_relabel_configs:)", r"\1", text, flags=re.M
    )
    (job,) = yaml.safe_load(offered)["scrape_configs"]
    assert job.keys() >= {"scheme", "authorization", "metric_relabel_configs"}
    assert [rule["action"] for rule in job["metric_relabel_configs"]] == ["drop", "drop"]
