"""Every architecture that is served says what `generate` says: alone, in company, with adapters."""

from pathlib import Path

import pytest

from inference_service.engine.base_model import BaseModel, load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter, load_adapter
from inference_service.engine.requests import GenerationRequest
from tests.inference_service.adapters import save_adapter
from tests.inference_service.engine.driven import Driven
from tests.inference_service.engine.generating import (
    Recorder,
    collect,
    collect_all,
    generate_tokens,
)
from tests.inference_service.tiny_families import CAUSAL, LONGROPE_FROM, SEQ2SEQ, save_family

pytestmark = pytest.mark.anyio

TEXTS = ("Hi", "A longer prompt, with more words in it.", "so " * 20, "é?", "12345 67890")
FAMILIES = [*CAUSAL, *SEQ2SEQ]


class Loaded:
    """A model of one architecture, and two adapters over it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / "model"
        save_family(self.folder, name)
        self.base: BaseModel = load_base_model(self.folder, name, "fp32")
        self.folders: list[Path | None] = [None]
        self.adapters: list[Adapter | None] = [None]
        for place, rank in enumerate((8, 4)):
            adapter = folder / f"adapter-{place}"
            save_adapter(adapter, self.folder, rank=rank, seed=place)
            self.folders.append(adapter)
            self.adapters.append(load_adapter(adapter, self.base.projections))

    def ask(self, text: str, new_tokens: int, adapter: int = 0) -> GenerationRequest:
        return GenerationRequest(
            self.base,
            self.base.codec.encode(text, special=True),
            new_tokens,
            self.adapters[adapter],
            stop_token_ids=frozenset(self.base.stop_token_ids),
        )


@pytest.fixture(params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Loaded:
    return Loaded(tmp_path, request.param)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


async def test_tokens_are_those_of_generate_alone_and_in_mixed_batches(
    engine: Engine, loaded: Loaded, recorder: Recorder
) -> None:
    places = [(text, adapter) for text in TEXTS for adapter in range(3)]
    # Different lengths: rows leave while others run on, and others take their places.
    requests = [
        loaded.ask(text, 8 + 3 * place, adapter) for place, (text, adapter) in enumerate(places)
    ]
    folders = [loaded.folders[adapter] for _, adapter in places]
    expected = generate_tokens(loaded.folder, requests, folders)
    # A model that repeats itself, or an adapter that changes nothing, would prove nothing.
    assert len({tuple(tokens) for tokens in expected}) == len(expected)
    assert max(len(set(tokens)) for tokens in expected) > 5
    await collect_all(engine, requests)
    assert recorder.of(requests) == expected
    for request in requests[:3]:
        await collect(engine, request)
    assert recorder.of(requests[:3]) == expected[:3]


async def test_a_row_is_not_changed_by_those_that_join_and_leave_beside_it(
    loaded: Loaded, recorder: Recorder
) -> None:
    sizes = [(40, 0), (1, 1), (6, 2), (12, 1), (3, 0), (20, 2)]
    requests = [
        loaded.ask("word " * size, 60 if not place else 3 + 4 * place, adapter)
        for place, (size, adapter) in enumerate(sizes)
    ]
    folders = [loaded.folders[adapter] for _, adapter in sizes]
    expected = generate_tokens(loaded.folder, requests, folders)
    driven = Driven(loaded.base, max_rows=3)
    for request in requests:
        # Each joins late, and leaves its row to another before the first one ends.
        driven.submit(request)
        driven.step(4)
    driven.finish()
    assert recorder.of(requests) == expected


async def test_longrope_is_served_up_to_where_company_would_change_it(
    engine: Engine, tmp_path: Path, recorder: Recorder
) -> None:
    loaded = Loaded(tmp_path, "phi3")
    assert loaded.base.context_length == LONGROPE_FROM
    requests = [loaded.ask("x" * 20, LONGROPE_FROM - 20), loaded.ask("Short", 30)]
    expected = generate_tokens(loaded.folder, requests, [None, None])
    await collect_all(engine, requests)
    assert recorder.of(requests) == expected
