"""What is there for Prometheus and Grafana: it can be loaded, and names only what a hub gives."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from tests.deploy.ailing import ailing_hub
from tests.hub import scrapes

DIRECTORY = Path(__file__).parents[2] / "deploy" / "prometheus"
METRIC = re.compile(r"\b(?:(?:qubix|DCGM|process)_\w+|up\b)")


def promtool(*arguments: str) -> None:
    """Run it, and fail with what it says; skips where it is missing, but not in CI."""
    program = shutil.which("promtool")
    if program is None:
        assert "CI" not in os.environ, "promtool is to be installed in CI"
        pytest.skip("promtool (Debian: prometheus) is not installed")
    ran = subprocess.run(
        [program, *arguments], cwd=DIRECTORY, capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def given() -> set[str]:
    """The names of everything that a running hub gives."""
    async with ailing_hub() as (hub, _):
        with await asyncio.to_thread(
            urlopen, f"{hub.hub.url.replace('ws', 'http')}/metrics", timeout=10
        ) as response:
            return {name for name, _ in scrapes.read(response.read(), openmetrics=False)}


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The names of everything that a running hub gives, and of what Prometheus itself adds."""
    return asyncio.run(given()) | {"up"}


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    """All alert rules."""
    groups = yaml.safe_load((DIRECTORY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


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


def test_the_alerts_ask_for_what_there_is(names: set[str], alerts: list[dict[str, Any]]) -> None:
    """Every metric of every rule."""
    assert alerts
    assert all(METRIC.search(rule["expr"]) for rule in alerts)
    assert {name for rule in alerts for name in METRIC.findall(rule["expr"])} <= names


def test_each_alert_says_what_is_so_and_what_to_do(alerts: list[dict[str, Any]]) -> None:
    """In a line and in sentences; how urgent it is, too."""
    for rule in alerts:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert "\n" not in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    """Without a complaint."""
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", "alerts.yml")


def test_each_alert_fires_when_it_should_and_only_then(alerts: list[dict[str, Any]]) -> None:
    """By `promtool test rules`, over histories of a hub, of providers and of jobs; none is left out."""
    promtool("test", "rules", "alerts.test.yml")
    cases = yaml.safe_load((DIRECTORY / "alerts.test.yml").read_text())["tests"]
    fired = {
        name
        for case in cases
        for asked in case["promql_expr_test"]
        if asked["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', yaml.safe_dump(asked, width=1000))
    }
    assert fired == {rule["alert"] for rule in alerts}


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
    loaded = yaml.safe_load(text)
    assert loaded["rule_files"] == ["alerts.yml"]
    (job,) = loaded["scrape_configs"]
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
