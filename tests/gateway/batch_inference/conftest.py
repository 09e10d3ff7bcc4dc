"""A gateway to ask, and a batch that asks it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live
from tests.gateway.batch_inference.command_line import ROWS, answering


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with answering(settings) as live:
        yield live


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [{"prompt": f"p{number}", "completion": f"c{number}"} for number in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "batch.yaml"
    path.write_text(
        f"dataset: rows.jsonl\nmodel: {BUNDLED_MODEL}\noutput_dir: out\nmax_tokens: 9\n"
    )
    return path
