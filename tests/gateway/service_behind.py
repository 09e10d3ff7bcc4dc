"""A gateway whose route `best` asks a service LLM, and the deployment `small` where that fails:
fixtures of several test files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.dying_upstream import DyingUpstream, dying_upstream


@pytest.fixture(name="upstream")
def service_behind() -> Iterator[DyingUpstream]:
    with dying_upstream() as upstream:
        yield upstream


@pytest.fixture(name="live")
def gateway_before(
    settings: GatewaySettings, upstream: DyingUpstream, tmp_path: Path
) -> Iterator[Live]:
    file = tmp_path / "upstreams.yaml"
    file.write_text(f"upstreams: [{{name: service, base_url: '{upstream.url}', model: large}}]\n")
    with live_gateway(settings.model_copy(update={"upstreams_file": file})) as live:
        live.deploy("small")
        live.inference.words = upstream.words
        body = {"name": "best", "targets": [{"upstream": "service"}], "fallbacks": ["small"]}
        assert live.http.post("/api/routes", json=body).status_code == 201
        yield live
