"""The metrics of all services, the page that tells of them, the dashboard that asks for them."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from gateway.settings import GatewaySettings
from inference_service.app import make_service
from inference_service.settings import InferenceSettings
from tests.gateway.conftest import (  # noqa: F401 - fixtures
    data_folder,
    migrated_file,
    settings,
    valkey,
    valkey_server,
)
from tests.gateway.parts import gateway_services
from tests.metrics import Families, of_gateway, of_inference, of_trainer

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "observability.md"
DASHBOARD = DOCS / "grafana" / "genplat.json"
# What Prometheus itself, and its client library, have of every process.
EVERYWHERE = ("up", "process_resident_memory_bytes", "process_cpu_seconds_total")
NAME = re.compile(r"\b(?:genplat_\w+|process_\w+|up(?=\{))")
_OF_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
_LABELS = re.compile(r"by \(([^)]*)\)")
_SHOWN = re.compile(r"\{\{(\w+)\}\}")
_UNITS = ("_seconds", "_bytes", "_total")


@pytest.fixture
def exported(settings: GatewaySettings, tmp_path: Path) -> dict[str, Families]:  # noqa: F811
    """What each service says, by service."""

    async def gateway() -> Families:
        async with gateway_services(settings) as services:
            return await asyncio.to_thread(of_gateway, services)

    options = {"data_dir": tmp_path / "data", "torch_threads": 1}
    service = make_service(InferenceSettings.model_validate(options))
    return {
        "gateway": asyncio.run(gateway()),
        "trainer": of_trainer(),
        "inference": of_inference(service),
    }


def own(families: Families) -> dict[str, Metric]:
    return {name: one for name, one in families.items() if name.startswith("genplat_")}


def test_every_metric_is_named_and_described(exported: dict[str, Families]) -> None:
    seen: set[str] = set()
    for families in exported.values():
        assert set(EVERYWHERE[1:]) <= set(families)
        for name, family in own(families).items():
            assert name not in seen, f"two services have {name}"
            seen.add(name)
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
            assert family.documentation.endswith("."), name
            assert (family.type == "counter") == name.endswith("_total"), name
            if family.type in ("histogram", "summary"):
                assert name.endswith(_UNITS), name
    assert len(seen) > 50


def test_the_page_has_all_metrics_as_they_are(exported: dict[str, Families]) -> None:
    """Where this fails: what it shows belongs into the page."""
    rows = [
        f"| `{name}` | {family.type} | {family.documentation} |"
        for families in exported.values()
        for name, family in own(families).items()
    ]
    told = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `genplat_")]
    assert told == rows, "\n".join(rows)


def panels() -> Iterator[dict[str, Any]]:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    assert dashboard["uid"] == "genplat"
    assert [one["type"] for one in dashboard["templating"]["list"]] == ["datasource"]
    yield from dashboard["panels"]


def test_every_panel_has_a_title_a_unit_and_a_place() -> None:
    ids, taken = set(), set()
    for panel in panels():
        assert panel["title"]
        ids.add(panel["id"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    assert len(ids) == len(list(panels()))


def test_every_query_asks_for_what_some_service_exports(exported: dict[str, Families]) -> None:
    known = {name: one for families in exported.values() for name, one in families.items()}
    asked = set()
    for panel in panels():
        for target in panel.get("targets", []):
            names = NAME.findall(target["expr"])
            assert names, target["expr"]
            for name in names:
                family = known.get(name) or known.get(_OF_HISTOGRAM.sub("", name))
                assert family is not None or name == "up", f"{panel['title']}: {name}"
                asked.add(_OF_HISTOGRAM.sub("", name))
                if family is not None and family.type == "counter":
                    assert re.search(rf"(rate|increase)\({name}", target["expr"]), target["expr"]
            grouped = {
                label.strip()
                for labels in _LABELS.findall(target["expr"])
                for label in labels.split(",")
            }
            # What a query groups by is what its legend can show.
            shown = set(_SHOWN.findall(target["legendFormat"]))
            assert not grouped or shown <= grouped, panel["title"]
    # Nothing that is exported goes without being looked at, but for what only details tell.
    unseen = {name for families in exported.values() for name in own(families)} - asked
    assert unseen == {
        "genplat_inference_models",
        "genplat_inference_request_seconds",
        "genplat_inference_tokens_total",
        "genplat_trainer_run_learning_rate",
    }


def test_the_example_for_prometheus_can_be_read() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (config,) = [found for block in blocks if "scrape_configs" in (found := yaml.safe_load(block))]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) == {"genplat-gateway", "genplat-trainer", "genplat-inference"}
    for job in jobs.values():
        assert job["authorization"]["credentials_file"]
        assert job["static_configs"][0]["targets"]
