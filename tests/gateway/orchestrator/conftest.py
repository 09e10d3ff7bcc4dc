"""An inference service behind the gateway, with the models that routes name."""

from collections.abc import Iterator

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.fake_inference import FakeInference, fake_inference


@pytest.fixture
def inference() -> Iterator[FakeInference]:
    with fake_inference() as fake:
        for name in ("mine", "new"):
            fake.models[name] = {"state": "ready"}
        yield fake


@pytest.fixture
def served(settings: GatewaySettings, inference: FakeInference) -> GatewaySettings:
    return settings.model_copy(update={"inference_url": inference.url})
