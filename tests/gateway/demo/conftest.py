"""The platform that the demo talks to."""

from collections.abc import Iterator

import pytest

from tests.gateway.demo.fake_platform import FakePlatform, running_platform


@pytest.fixture
def platform() -> Iterator[tuple[str, type[FakePlatform]]]:
    with running_platform() as running:
        yield running
