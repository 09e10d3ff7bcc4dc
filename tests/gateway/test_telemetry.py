"""What the gateway counts of its models: by names that exist, and what happened to each request."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from gateway.model_telemetry import MOST_NAMES, OTHER, ModelTelemetry
from gateway.request_log.entries import NOWHERE, Entry, Origin
from shared.chat import ChatRequest
from tests.gateway.api.live import Live, chat
from tests.gateway.dying_upstream import DyingUpstream
from tests.gateway.parts import until_true
from tests.gateway.service_behind import gateway_before, service_behind  # noqa: F401 - fixtures
from tests.metrics import Families, families, value


def shown(live: Live) -> Families:
    # Tokens are counted behind the requests' backs.
    until_true(lambda: live.services.log.waiting == 0)
    answer = live.http.get("/metrics")
    assert answer.status_code == 200
    return families(answer.text)


def test_who_answered_is_counted_and_timed(live: Live, upstream: DyingUpstream) -> None:
    assert chat(live, "best").status_code == 200
    assert chat(live, "best", stream=True).status_code == 200
    found = shown(live)
    labels = {"route": "best", "target": "upstream/service", "outcome": "ok"}
    assert value(found, "genplat_model_requests_total", **labels) == 2
    target = {"target": "upstream/service"}
    assert value(found, "genplat_model_request_seconds", "_count", **target) == 2
    assert value(found, "genplat_model_first_token_seconds", "_count", **target) == 1
    written = value(found, "genplat_model_tokens_total", **target, direction="completion")
    assert written is not None and written >= len(upstream.words)
    assert value(found, "genplat_breaker_state", **target) == 0
    assert value(found, "genplat_database_up") == 1
    assert value(found, "genplat_request_log_written_total") == 2


def test_who_stepped_in_and_who_went_on(live: Live, upstream: DyingUpstream) -> None:
    upstream.cut_at = len(upstream.stream()) // 2
    chat(live, "best", stream=True)
    upstream.status = 500
    for _ in range(4):
        chat(live, "best")
    found = shown(live)
    assert value(found, "genplat_model_takeovers_total", target="small") == 1
    failed = {"route": "best", "reason": "upstream_500"}
    rested = {"route": "best", "reason": "circuit_open"}
    counts = [value(found, "genplat_model_fallbacks_total", **one) for one in (failed, rested)]
    # The first of the four was asked twice, which made three failures in a row.
    assert counts == [1, 3]
    assert value(found, "genplat_breaker_state", target="upstream/service") == 2


def test_a_made_up_name_is_no_label(live: Live) -> None:
    for name in ("made-up-1", "made-up-2"):
        assert chat(live, name).status_code == 404
    found = shown(live)
    labels = {"route": "", "target": "none", "outcome": "refused"}
    assert value(found, "genplat_model_requests_total", **labels) == 2
    assert "made-up" not in live.http.get("/metrics").text


def test_what_may_not_be_kept_is_counted(live: Live) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-genplat-log": "none"}
    assert live.http.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    found = shown(live)
    assert value(found, "genplat_model_tokens_total", target="small", direction="completion")
    assert value(found, "genplat_request_log_written_total") == 0
    assert live.http.get("/api/requests").json()["data"] == []


def test_refusals_of_a_keys_limits_are_counted(live: Live) -> None:
    made = live.http.post("/api/keys", json={"name": "few", "requests_per_minute": 1}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    statuses = [
        live.http.post("/v1/chat/completions", json=body, headers=headers).status_code
        for _ in range(3)
    ]
    assert statuses == [200, 429, 429]
    found = shown(live)
    assert value(found, "genplat_limit_refusals_total", limit="requests") == 2
    assert value(found, "genplat_limits_shared") == 1


def test_what_becomes_of_a_shadow_is_counted(live: Live) -> None:
    body = {"targets": [{"upstream": "service"}], "shadow": {"deployment": "small"}}
    assert live.http.put("/api/routes/best", json=body).status_code == 200
    for _ in range(2):
        assert chat(live, "best").status_code == 200
    until_true(lambda: live.services.shadows.counts["answered"] == 2)
    found = shown(live)
    assert value(found, "genplat_shadow_requests_total", outcome="answered") == 2
    assert value(found, "genplat_shadow_requests_total", outcome="busy") == 0


def entry(**changes: Any) -> Entry:
    request = ChatRequest.model_validate({"model": "m", "messages": []} | {"messages": [TURN]})
    made = Entry("admin", request, changes.pop("origin", NOWHERE))
    for name, given_value in changes.items():
        setattr(made, name, given_value)
    return made


TURN = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (400, "refused"), (404, "refused"), (429, "failed"), (499, "left"),
     (502, "failed")],
)  # fmt: skip
def test_outcomes(status: int, outcome: str) -> None:
    telemetry = ModelTelemetry()
    telemetry.ended(entry(status=status, drawn="small"))
    found = families(generate_latest(telemetry.registry))
    labels = {"route": "", "target": "small", "outcome": outcome}
    assert value(found, "genplat_model_requests_total", **labels) == 1


def test_a_copy_for_comparison_is_no_request() -> None:
    telemetry = ModelTelemetry()
    copied = entry(served_by="small", origin=Origin(shadow_of="req_1"))
    telemetry.ended(copied)
    telemetry.read(copied, 3, 4)
    telemetry.read(copied, 3, 4)
    found = families(generate_latest(telemetry.registry))
    assert found["genplat_model_requests_total"].samples == []
    tokens = {"target": "small", "direction": "completion"}
    assert value(found, "genplat_model_tokens_total", **tokens) == 4


@settings(deadline=None, max_examples=5)
@given(st.lists(st.text(min_size=1, max_size=3), min_size=3, max_size=3), st.integers(1, 3))
def test_there_are_never_more_series_than_names_allowed(names: list[str], times: int) -> None:
    telemetry = ModelTelemetry()
    for number in range(MOST_NAMES + 50):
        telemetry.ended(entry(served_by=f"gone-{number}", seconds=0.1))
    for name in names * times:
        telemetry.ended(entry(served_by=f"late-{name}", fallback_reason=name))
    found = families(generate_latest(telemetry.registry))
    series = found["genplat_model_requests_total"].samples
    assert len(series) <= MOST_NAMES + 1
    assert sum(sample.value for sample in series) == MOST_NAMES + 50 + 3 * times
    assert value(found, "genplat_model_requests_total", route="", target=OTHER, outcome="ok")
