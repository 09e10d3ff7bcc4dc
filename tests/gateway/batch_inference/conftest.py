"""A gateway to ask, and a batch that asks it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.batch_inference.command_line import ROWS


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.echoes, live.inference.refused_word = True, "refused"
        # Loaded: a first request is asked twice.
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
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
