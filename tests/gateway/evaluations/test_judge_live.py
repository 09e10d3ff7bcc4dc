"""A judge and a service LLM in a live gateway's evaluation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.evaluations.judge import (
    RUBRIC,
)
from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.dying_upstream import DyingUpstream, dying_upstream
from tests.gateway.evaluations.asked import by_length, evaluate, says, upload, word_rows


@pytest.fixture
def upstream() -> Iterator[DyingUpstream]:
    with dying_upstream() as upstream:
        yield upstream


@pytest.fixture
def live(settings: GatewaySettings, upstream: DyingUpstream, tmp_path: Path) -> Iterator[Live]:
    file = tmp_path / "upstreams.yaml"
    file.write_text(
        f"upstreams: [{{name: service, base_url: '{upstream.url}', model: large, "
        "prices: {input_per_million: 1000000, output_per_million: 2000000}}]\n"
    )
    with live_gateway(settings.model_copy(update={"upstreams_file": file})) as live:
        live.inference.says = says
        live.deploy("good")
        live.deploy("plain")
        yield live


def test_a_service_llm_is_compared_and_what_it_costs_is_told(
    live: Live, upstream: DyingUpstream
) -> None:
    dataset = upload(live.http, word_rows(5))
    found = evaluate(live, dataset_id=dataset["id"], candidates=["upstream/service", "good"])
    service = found["results"]["candidates"][0]
    assert service["served_by"] == ["upstream/service"] and service["answered"] == 5
    assert service["metrics"]["perplexity"]["value"] is None
    spent = service["prompt_tokens"] + 2 * service["completion_tokens"]
    assert service["cost"] == {"amount": spent, "currency": "USD"} and spent > 0
    assert found["results"]["candidates"][1]["cost"] is None


def test_a_judge_sees_what_metrics_see(live: Live) -> None:
    def judging(body: dict[str, Any]) -> str:
        return by_length(body) if body["model"] == "judge" else says(body)

    live.inference.says = judging
    live.deploy("judge")
    dataset = upload(live.http, word_rows(8))
    judge_spec = {"model": "judge", "against": "baseline", "limit": 6, "rubric": "Be long."}
    found = evaluate(
        live,
        dataset_id=dataset["id"],
        candidates=["plain", "good"],
        metrics=["exact_match"],
        judge=judge_spec,
    )
    assert found["status"] == "succeeded", found["error"]
    assert not any("own answers" in warning for warning in found["warnings"])
    assert found["done"] == found["total"] == 2 * 8 + 2 * 6
    plain, good = (one["metrics"] for one in found["results"]["candidates"])
    assert good["judge_similarity"]["value"] == 5 and plain["judge_similarity"]["value"] == 2
    assert good["judge_preference"]["value"] == 1 and good["judge_preference"]["examples"] == 6
    assert plain["judge_preference"]["value"] is None
    told = found["results"]["judge"]
    assert (told["judged"], told["pairs"], told["unreadable"]) == (12, 6, 0)
    prompts = [b["messages"][0]["content"] for b in live.inference.asked if b["model"] == "judge"]
    assert prompts and all("Be long." in prompt and RUBRIC not in prompt for prompt in prompts)
