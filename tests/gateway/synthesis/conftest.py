"""A live gateway with somebody who writes."""

from collections.abc import Iterator

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live
from tests.gateway.synthesis.asked import gateway_with_writer


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with gateway_with_writer(settings) as live:
        yield live
