"""Names and weights: loading once, sharing bases, replacing, unloading, and saying why not."""

import asyncio
import shutil
from pathlib import Path

import pytest

from inference_service.engine.engine import Engine
from inference_service.engine.requests import GenerationRequest
from inference_service.model_manager import ModelManager
from shared.chat import ModelRef
from shared.errors import InvalidData, NotFound
from shared.storage import Storage, write_manifest
from tests.inference_service.engine.generating import collect, prompt
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model

pytestmark = pytest.mark.anyio

BASE = ModelRef(base_model=TINY_MODEL)
RUN_A = ModelRef(base_model=TINY_MODEL, run_id="run_a")
RUN_B = ModelRef(base_model=TINY_MODEL, run_id="run_b")


def manager_of(storage: Storage, engine: Engine, memory_bytes: int = 2**30) -> ModelManager:
    return ModelManager(storage, engine, memory_bytes=memory_bytes, unload_grace_seconds=2)


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
    storage: Storage, engine: Engine, tmp_path: Path
) -> None:
    own = Storage(tmp_path)
    names = ["tests/one", "tests/two", "tests/three"]
    for seed, name in enumerate(names):
        prepare_tiny_model(own, name, seed=seed)
    manager = manager_of(own, engine, memory_bytes=250_000)  # two of them, not three
    await manager.put("one", ModelRef(base_model="tests/one"))
    await manager.put("two", ModelRef(base_model="tests/two"))
    with manager.lease("one"):
        pass
    await manager.put("three", ModelRef(base_model="tests/three"))
    assert [model.name for model in manager.models()] == ["one", "three"]
    with manager.lease("one") as used:
        await manager.put("two", ModelRef(base_model="tests/two"))
        assert [model.name for model in manager.models()] == ["one", "two"]
        request = GenerationRequest(used.base, prompt(used.base, "Hi"), 3)
        assert (await collect(engine, request))[1].completion_tokens == 3
