"""A live gateway with somebody who writes."""

from collections.abc import Iterator

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.synthesis.writing import writes


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = writes
        live.deploy("writer")
        yield live
