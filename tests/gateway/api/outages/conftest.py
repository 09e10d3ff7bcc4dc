"""One gateway for a module's tests, whose route stands over a service LLM that fails as it is told
to and falls back to a small model. Each test finds it as if it had just been started."""

from collections.abc import Iterator
from dataclasses import fields

import pytest
from sqlmodel import delete

from gateway.settings import GatewaySettings
from gateway.tables import LoggedRequest
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import gateway_settings
from tests.gateway.dying_upstream import KEY, DyingUpstream, dying_upstream
from tests.gateway.fake_inference import FakeInference
from tests.valkey import Valkey

_KEPT = ("token", "models", "server")
ROUTE = {"name": "best", "targets": [{"upstream": "service"}], "fallbacks": ["small"]}


@pytest.fixture(scope="module")
def module_upstream() -> Iterator[DyingUpstream]:
    with dying_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def module_live(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey, module_upstream: DyingUpstream
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("outages")
    file = folder / "upstreams.yaml"
    file.write_text(
        f"upstreams: [{{name: service, base_url: '{module_upstream.url}', model: large,"
        " api_key_env: SERVICE_KEY, stall_seconds: 0.5, first_token_seconds: 1}]\n"
    )
    settings: GatewaySettings = gateway_settings(folder, valkey_server)
    with live_gateway(settings.model_copy(update={"upstreams_file": file})) as live:
        live.deploy("small")
        yield live


@pytest.fixture
def upstream(module_upstream: DyingUpstream) -> DyingUpstream:
    new = DyingUpstream(url=module_upstream.url)
    for field in fields(new):
        setattr(module_upstream, field.name, getattr(new, field.name))
    return module_upstream


@pytest.fixture
def live(
    module_live: Live, upstream: DyingUpstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Live]:
    monkeypatch.setenv("SERVICE_KEY", KEY)
    live, new = module_live, FakeInference(words=upstream.words)
    for field in fields(new):
        if field.name not in _KEPT:
            setattr(live.inference, field.name, getattr(new, field.name))
    for memory in (
        live.services.breakers,
        live.services.retry_budgets,
        live.services.latencies,
    ):
        memory._by_label.clear()
    for route in live.http.get("/api/routes").json()["data"]:
        assert live.http.delete(f"/api/routes/{route['name']}").status_code == 204
    # (What waits is written first.)
    live.http.get("/api/requests")
    with live.services.database.write() as session:
        session.exec(delete(LoggedRequest))
    assert live.http.post("/api/routes", json=ROUTE).status_code == 201
    yield live
