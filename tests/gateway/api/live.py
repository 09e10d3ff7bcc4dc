"""A gateway on a real server over a hand-written inference service, for tests of the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from openai import OpenAI

from gateway.app import create_app
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import Run
from shared.model_library import BUNDLED_MODEL
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.parts import OWNER, add_dataset, fake_prepared, spec, until_true
from tests.gateway.threaded_server import serving
from tests.valkey import free_port

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Live:
    """What a test needs: a client of the gateway, and what is behind it."""

    http: httpx.Client
    services: Services
    inference: FakeInference
    url: str

    @property
    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=ADMIN_KEY, max_retries=0)

    def deploy(self, name: str, model: str = BUNDLED_MODEL) -> None:
        answer = self.http.post("/api/deployments", json={"name": name, "model": model})
        assert answer.status_code == 201, answer.text
        until_true(lambda: self.state(name) == "ready")

    def state(self, name: str) -> str:
        return str(self.http.get(f"/api/deployments/{name}").json()["state"])

    def succeeded_run(self, **changes: object) -> Run:
        """A run that has made a model, as far as the database is concerned."""
        with self.services.database.write() as session:
            run = Run(
                owner=OWNER,
                spec=spec().model_dump(mode="json"),
                base_model=BUNDLED_MODEL,
                dataset_id="ds_test",
                status="succeeded",
            )
            run.fine_tuned_model = f"ft:{BUNDLED_MODEL}:genplat::{run.id[-8:]}"
            for name, value in changes.items():
                setattr(run, name, value)
            session.add(run)
        return run


@contextmanager
def live_gateway(settings: GatewaySettings) -> Iterator[Live]:
    with fake_inference() as inference:
        port = free_port()
        settings = settings.model_copy(
            update={
                "inference_url": inference.url,
                "reconcile_seconds": 0.1,
                "allowed_hosts": "127.0.0.1",
            }
        )
        app = create_app(settings)
        with serving(app, port=port) as url:
            services: Services = app.state.services
            add_dataset(services.database)
            fake_prepared(services.storage, BUNDLED_MODEL)
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
            with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
                yield Live(client, services, inference, url)


def chat(live: Live, model: str, **changes: object) -> httpx.Response:
    return live.http.post("/v1/chat/completions", json=CHAT | {"model": model} | changes)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])
