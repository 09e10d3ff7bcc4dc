"""What runs have made, under names: whole models and adapters, results and checkpoints."""

import shutil
from pathlib import Path

import pytest

from inference_service import model_files
from inference_service.engine.base_model import BaseModel
from inference_service.engine.engine import Engine
from inference_service.engine.requests import GenerationRequest
from inference_service.model_files import library_template
from inference_service.model_manager import ModelManager, Weights
from shared.chat import ModelRef
from shared.errors import InvalidData
from shared.model_library import LibraryEntry
from shared.storage import Storage, write_manifest
from tests.inference_service.engine.generating import Recorder, collect, generate_tokens
from tests.inference_service.test_model_manager import manager_of
from tests.inference_service.tiny_families import TINY_BYT5, save_whole_result
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = pytest.mark.anyio

PLAIN = ModelRef(base_model=TINY_BYT5)
LORA = ModelRef(base_model=TINY_BYT5, run_id="run_lora")
FULL = ModelRef(base_model=TINY_BYT5, run_id="run_full")


@pytest.fixture
def manager(paired: Storage, engine: Engine) -> ModelManager:
    return manager_of(paired, engine)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def asking(weights: Weights) -> GenerationRequest:
    ids = weights.base.codec.encode("fix: He go home.", special=True)
    stops = frozenset(weights.base.stop_token_ids)
    return GenerationRequest(weights.base, ids, 30, weights.adapter, stop_token_ids=stops)


def at_step(ref: ModelRef, step: int) -> ModelRef:
    return ref.model_copy(update={"checkpoint": step})


async def test_every_form_of_result_answers_as_generate_does(
    manager: ModelManager, engine: Engine, paired: Storage, recorder: Recorder
) -> None:
    base = paired.base_model(TINY_BYT5)
    cases: list[tuple[ModelRef, Path, Path | None]] = [
        (PLAIN, base, None),
        (LORA, base, paired.run_result("run_lora")),
        (at_step(LORA, 10), base, paired.run_deployed("run_lora", 10)),
        (FULL, paired.run_result("run_full"), None),
        (at_step(FULL, 10), paired.run_deployed("run_full", 10), None),
    ]
    said = []
    for place, (ref, folder, adapter) in enumerate(cases):
        assert (await manager.put(str(place), ref)).precision == "fp32"
        with manager.lease(str(place)) as weights:
            assert weights.tuned is (ref.run_id is not None)
            request = asking(weights)
            await collect(engine, request)
            said += recorder.of([request])
            assert said[-1:] == generate_tokens(folder, [request], [adapter])
    assert len({tuple(tokens) for tokens in said}) == len(cases)


async def test_a_whole_model_is_held_once_and_apart_from_its_base(manager: ModelManager) -> None:
    await manager.put("one", FULL)
    await manager.put("two", FULL)
    await manager.put("base", PLAIN)
    await manager.put("tuned", LORA)
    with manager.lease("one") as one, manager.lease("two") as two:
        assert one.base is two.base
        assert one.template is not None
        assert (one.template.task_prefix, one.base.id) == ("fix: ", "run_full")
        with manager.lease("base") as base, manager.lease("tuned") as tuned:
            assert base.base is tuned.base
            assert base.base is not one.base


async def test_a_whole_model_needs_no_prepared_base_and_leaves_when_memory_is_short(
    engine: Engine, tmp_path: Path
) -> None:
    own = Storage(tmp_path)
    for seed, run_id in enumerate(("run_1", "run_2")):
        save_whole_result(own.run_result(run_id), TINY_MODEL, "llama", seed=seed)
    manager = manager_of(own, engine, memory_bytes=250_000)
    await manager.put("one", ModelRef(base_model=TINY_MODEL, run_id="run_1"))
    await manager.put("two", ModelRef(base_model=TINY_MODEL, run_id="run_2"))
    assert [model.name for model in manager.models()] == ["two"]


@pytest.mark.parametrize("ref", [at_step(LORA, 999), at_step(FULL, 11)])
async def test_a_checkpoint_that_was_not_put_aside_is_refused(
    manager: ModelManager, ref: ModelRef
) -> None:
    with pytest.raises(InvalidData, match=f"{ref.run_id}:ckpt-step-{ref.checkpoint}") as caught:
        await manager.put("x", ref)
    assert caught.value.code == "bad_adapter"


async def test_a_changed_whole_model_or_one_of_another_base_is_refused(
    paired: Storage, engine: Engine, tmp_path: Path
) -> None:
    own = Storage(tmp_path)
    folder = own.run_result("run_full")
    shutil.copytree(paired.run_result("run_full"), folder)
    manager = manager_of(own, engine)
    with pytest.raises(InvalidData, match="was trained on"):
        await manager.put("x", ModelRef(base_model=TINY_MODEL, run_id="run_full"))
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(InvalidData, match="changed file"):
        await manager.put("x", FULL)
    config.unlink()
    write_manifest(folder)
    with pytest.raises(InvalidData, match="cannot be read"):
        await manager.put("x", FULL)


def test_a_base_model_is_asked_as_the_library_says(
    base: BaseModel, byt5: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {
        base.id: LibraryEntry(id=base.id, name="A", chat_template="{{ messages }}"),
        byt5.id: LibraryEntry(id=byt5.id, name="B", task_prefix="summarize: "),
    }
    assert library_template(byt5) is None
    monkeypatch.setattr(model_files, "built_in_library", lambda: entries)
    found = library_template(byt5)
    assert found is not None
    assert (found.task_prefix, found.stop_token_ids) == ("summarize: ", (1,))
    # The library's chat template is for tokenizers that have none.
    found = library_template(base)
    assert found is not None
    assert found.chat_template == base.chat_template != ""
