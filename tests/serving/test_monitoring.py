"""Dashboard and alerts ask only for metrics and labels that the code exports, and Prometheus understands them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from driftline.serving.telemetry import METRICS

MONITORING = Path(__file__).resolve().parents[2] / "serve/monitoring"
OF_RAY = {"application", "deployment", "replica", "le"}


def exported() -> dict[str, set[str]]:
    """Labels by name, as Prometheus sees them: Ray's prefix in front, three series for a histogram."""
    names: dict[str, set[str]] = {}
    for name, (kind, _, labels) in METRICS.items():
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            names[f"ray_{name}{suffix}"] = {*labels, *OF_RAY}
    return names


def queries() -> list[tuple[str, str]]:
    """Title and expression of every query of the dashboard and every alert."""
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    shown = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    return shown + [(alert["alert"], alert["expr"]) for alert in alerts()]


def alerts() -> list[dict[str, str]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(("title", "expression"), queries())
def test_a_query_names_what_the_code_exports(title: str, expression: str) -> None:
    known = exported()
    names = set(re.findall(r"\bray_\w+", expression))
    assert names
    assert names <= known.keys()
    labels = {label for name in names for label in known[name]}
    asked = set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
    asked |= {word for listed in re.findall(r"by\s*\(([^)]*)\)", expression) for word in re.findall(r"\w+", listed)}
    assert asked <= labels


def test_the_dashboard_shows_every_metric() -> None:
    text = " ".join(expression for _, expression in queries())
    assert [name for name in METRICS if f"ray_{name}" not in text] == []


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (MONITORING.parents[1] / "docs/operations.md").read_text()
    assert [alert["alert"] for alert in alerts() if f"`{alert['alert']}`" not in runbook] == []


def test_prometheus_accepts_the_alerts_and_every_query_of_the_dashboard(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    variables = {"$application": ".*", "$__rate_interval": "5m"}
    rules = []
    for number, (_, expression) in enumerate(queries()):
        for name, value in variables.items():
            expression = expression.replace(name, value)  # noqa: PLW2901
        rules.append({"record": f"query:{number}", "expr": expression})
    recorded = tmp_path / "queries.yaml"
    recorded.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = [promtool, "check", "rules", str(MONITORING / "alerts.yaml"), str(recorded)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
