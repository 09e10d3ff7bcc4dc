"""`genplat batch` as a person types it, and what comes of it."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from gateway import cli
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import ADMIN_KEY

COLUMNS = [
    "instructions",
    "target_responses",
    "candidate_responses",
    "model_id",
    "model_sha",
]
ROWS = 60
Row = dict[str, str | None]


@contextmanager
def answering(settings: GatewaySettings) -> Iterator[Live]:
    """A gateway whose model says what it is asked."""
    with live_gateway(settings) as live:
        live.inference.echoes, live.inference.refused_word = True, "refused"
        # Loaded: a first request is asked twice.
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
        yield live


def arguments(live: Live, *more: object) -> list[str]:
    root = live.services.settings.root
    given = ["--url", live.url, "--key", ADMIN_KEY, "--data-dir", root, *more]
    return ["batch", *map(str, given)]


def batch(live: Live, *more: object) -> int:
    return cli.main(arguments(live, *more))


def results(folder: Path, name: str = "rows") -> list[Row]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    found: list[Row] = [json.loads(line) for line in lines]
    assert pq.read_table(folder / f"{name}.parquet").to_pylist() == found
    assert all(list(row) == COLUMNS for row in found)
    return found


def prompts(live: Live) -> Counter[str]:
    return Counter(body["messages"][-1]["content"] for body in live.inference.asked)


def journal_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
