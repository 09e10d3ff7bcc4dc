"""A gateway that works on batches, over an inference service that says what it is asked."""

from collections.abc import Iterator

import pytest

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings.model_copy(update={"batch_lease_seconds": 2})) as live:
        live.inference.echoes, live.inference.refused_word = True, "refused"
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
        yield live
