"""Names and weights: loading once, sharing bases, replacing, unloading, and saying why not."""

import asyncio
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from inference_service import model_manager
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter, Projection, load_adapter
from inference_service.engine.requests import GenerationRequest
from inference_service.model_manager import ModelManager
from shared.chat import ModelRef
from shared.errors import InvalidData, NotFound
from shared.storage import Storage, write_manifest
from tests.inference_service.adapters import save_run_result
from tests.inference_service.engine.generating import collect, prompt
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

pytestmark = pytest.mark.anyio

BASE = ModelRef(base_model=TINY_MODEL)
RUN_A = ModelRef(base_model=TINY_MODEL, run_id="run_a")
RUN_B = ModelRef(base_model=TINY_MODEL, run_id="run_b")
ONE, TWO, THREE = (ModelRef(base_model=f"tests/{name}") for name in ("one", "two", "three"))


def manager_of(storage: Storage, engine: Engine, memory_bytes: int = 2**30) -> ModelManager:
    return ModelManager(storage, engine, memory_bytes=memory_bytes, unload_grace_seconds=2)


@pytest.fixture
def crowded(engine: Engine, tmp_path: Path) -> ModelManager:
    """Three base models can be loaded; two of them fit into memory."""
    own = Storage(tmp_path)
    for seed, ref in enumerate((ONE, TWO, THREE)):
        prepare_tiny_model(own, ref.base_model, seed=seed)
    return manager_of(own, engine, memory_bytes=250_000)


@pytest.fixture
def manager(storage: Storage, engine: Engine) -> ModelManager:
    return manager_of(storage, engine)


async def test_models_of_one_base_share_its_weights(manager: ModelManager) -> None:
    loaded = await asyncio.gather(
        manager.put("base", BASE), manager.put("a", RUN_A), manager.put("b", RUN_B)
    )
    assert [(model.state, model.precision) for model in loaded] == [("ready", "fp32")] * 3
    with manager.lease("base") as base, manager.lease("a") as a, manager.lease("b") as b:
        assert base.base is a.base is b.base
        assert a.adapter is not b.adapter
        assert base.adapter is None
    assert [model.name for model in manager.models()] == ["base", "a", "b"]


async def test_putting_the_same_again_changes_nothing(manager: ModelManager) -> None:
    await asyncio.gather(*(manager.put("a", RUN_A) for _ in range(5)))
    with manager.lease("a") as before:
        await manager.put("a", RUN_A)
        with manager.lease("a") as after:
            assert before is after


async def test_another_model_replaces_the_old_one_when_it_is_there(manager: ModelManager) -> None:
    await manager.put("name", RUN_A)
    with pytest.raises(InvalidData):
        await manager.put("name", ModelRef(base_model=TINY_MODEL, run_id="run_missing"))
    assert manager.models()[0].ref == RUN_A
    await manager.put("name", RUN_B)
    assert [model.ref for model in manager.models()] == [RUN_B]


async def test_an_unprepared_base_is_named(manager: ModelManager) -> None:
    with pytest.raises(NotFound) as caught:
        await manager.put("x", ModelRef(base_model="nobody/nothing"))
    assert caught.value.code == "model_not_prepared"
    assert [(model.name, model.state) for model in manager.models()] == [("x", "failed")]
    with pytest.raises(NotFound), manager.lease("x"):
        pass


@pytest.mark.parametrize("run_id", ["run_missing", "../run_a", ""])
async def test_a_result_that_is_not_there_is_refused(manager: ModelManager, run_id: str) -> None:
    with pytest.raises(InvalidData) as caught:
        await manager.put("x", ModelRef(base_model=TINY_MODEL, run_id=run_id))
    assert caught.value.code == "bad_adapter"


async def test_a_changed_result_or_a_foreign_base_is_refused(
    storage: Storage, engine: Engine, tmp_path: Path
) -> None:
    own = Storage(tmp_path)
    shutil.copytree(storage.base_model(TINY_MODEL), own.base_model(TINY_MODEL))
    shutil.copytree(storage.run_result("run_a"), own.run_result("run_a"))
    prepare_tiny_model(own, "tests/other", seed=4)
    manager = manager_of(own, engine)
    with pytest.raises(InvalidData, match="was trained on"):
        await manager.put("x", ModelRef(base_model="tests/other", run_id="run_a"))
    template = own.run_result("run_a") / "prompt_template.json"
    template.write_text(template.read_text() + " ")
    with pytest.raises(InvalidData, match="changed file"):
        await manager.put("x", RUN_A)
    template.write_text("{}")
    write_manifest(own.run_result("run_a"))
    with pytest.raises(InvalidData, match="cannot be read"):
        await manager.put("x", RUN_A)
    (own.base_model(TINY_MODEL) / "model.safetensors").write_bytes(b"")
    with pytest.raises(InvalidData, match="damaged"):
        await manager_of(own, engine).put("x", BASE)


async def test_unloading_waits_for_the_answers_that_run(
    manager: ModelManager, engine: Engine
) -> None:
    await manager.put("a", RUN_A)
    with pytest.raises(NotFound):
        await manager.delete("unknown")
    with manager.lease("a") as weights:
        deleting = asyncio.create_task(manager.delete("a"))
        await asyncio.sleep(0.02)
        with pytest.raises(NotFound), manager.lease("a"):
            pass
        request = GenerationRequest(weights.base, prompt(weights.base, "Hi"), 5, weights.adapter)
        assert (await collect(engine, request))[1].completion_tokens == 5
        assert not deleting.done()
    await deleting
    assert manager.models() == []


async def test_the_least_used_base_leaves_when_memory_is_short(
    crowded: ModelManager, engine: Engine
) -> None:
    manager = crowded
    await manager.put("one", ONE)
    await manager.put("two", TWO)
    with manager.lease("one"):
        pass
    await manager.put("three", THREE)
    assert [model.name for model in manager.models()] == ["one", "three"]
    with manager.lease("one") as used:
        await manager.put("two", TWO)
        assert [model.name for model in manager.models()] == ["one", "two"]
        request = GenerationRequest(used.base, prompt(used.base, "Hi"), 3)
        assert (await collect(engine, request))[1].completion_tokens == 3


async def test_a_base_whose_load_goes_on_is_not_evicted(
    crowded: ModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, read_on = threading.Event(), threading.Event()
    storage = Storage(tmp_path)
    save_run_result(storage, "run_x", model_id=ONE.base_model)

    def slow(folder: Path, modules: Mapping[str, Projection]) -> Adapter:
        reading.set()
        assert read_on.wait(10)
        return load_adapter(folder, modules)

    monkeypatch.setattr(model_manager, "load_adapter", slow)
    tuned = asyncio.create_task(crowded.put("tuned", ONE.model_copy(update={"run_id": "run_x"})))
    assert await asyncio.to_thread(reading.wait, 10)
    await crowded.put("two", TWO)
    await crowded.put("three", THREE)
    read_on.set()
    await tuned
    assert {model.name for model in crowded.models()} == {"tuned", "three"}
    await crowded.put("plain", ONE)
    with crowded.lease("tuned") as tuned_weights, crowded.lease("plain") as plain:
        assert tuned_weights.base is plain.base


async def test_answers_of_a_replaced_model_outlive_an_eviction(
    crowded: ModelManager, engine: Engine
) -> None:
    await crowded.put("name", ONE)
    with crowded.lease("name") as old:
        stream = engine.stream(GenerationRequest(old.base, prompt(old.base, "Hi"), 400))
        await anext(stream)
        await crowded.put("name", TWO)
        await crowded.put("three", THREE)
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].completion_tokens == 400
    # Its last answer is over, so its base is the one that leaves now.
    await crowded.put("two", TWO)
    assert {model.name for model in crowded.models()} == {"three", "two"}
    await crowded.put("one", ONE)
    with crowded.lease("one") as new:
        assert new.base is not old.base


async def test_an_eviction_leaves_the_name_to_what_replaced_its_model(
    crowded: ModelManager,
) -> None:
    await crowded.put("name", ONE)
    with crowded.lease("name"):
        await crowded.put("name", TWO)
    with crowded.lease("name"):
        await crowded.put("three", THREE)
    assert [(model.name, model.ref) for model in crowded.models()] == [
        ("name", TWO),
        ("three", THREE),
    ]


async def test_a_replaced_adapter_is_let_go_with_its_last_answer(
    manager: ModelManager, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[object] = []
    monkeypatch.setattr(engine, "forget", forgotten.append)
    await manager.put("name", RUN_A)
    with manager.lease("name") as first, manager.lease("name"):
        await manager.put("name", RUN_B)
        assert forgotten == []
    assert forgotten == [first.adapter]


async def test_an_unload_waits_no_longer_than_its_grace(
    storage: Storage, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[object] = []
    monkeypatch.setattr(engine, "forget", forgotten.append)
    manager = ModelManager(storage, engine, memory_bytes=2**30, unload_grace_seconds=0.1)
    await manager.put("a", RUN_A)
    with manager.lease("a") as weights:
        await manager.delete("a")
        assert forgotten == [weights.adapter]
    assert forgotten == [weights.adapter]
