"""Tests of the library: what can be chosen, adding to it, and the way to a prepared model."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway import library
from gateway.database import Database
from gateway.library import LibraryItem, add_library_model, get_library_item, list_library
from gateway.tables import LibraryModel
from shared.errors import Conflict, InvalidData, NotFound, Unavailable
from shared.model_library import BUNDLED_MODEL, built_in_library
from shared.storage import Storage, atomic_directory

HUB_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


class FakeQueue:
    """Jobs in a dict; may be out of reach."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.away = False

    async def enqueue(self, function: str, job_id: str, payload: dict[str, Any]) -> bool:
        if self.away:
            raise RedisConnectionError("away")
        self.jobs[job_id] = {"function": function} | payload
        return True

    async def holds(self, job_id: str) -> bool:
        if self.away:
            raise RedisConnectionError("away")
        return job_id in self.jobs


def test_of_two_requests_at_once_one_prepares(either_database: Database, tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(
            pool.map(lambda _: library._begin(either_database, storage, "me", HUB_MODEL), range(8))
        )
    assert len([job for job in jobs if job is not None]) == 1


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    folder = tmp_path / "imports"
    folder.mkdir()
    return folder.resolve()


def model_folder(root: Path, name: str = "mine", **config: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 512,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 259,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(facts | config))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def item(database: Database, storage: Storage, model_id: str, owner: str = "me") -> LibraryItem:
    return get_library_item(database=database, storage=storage, owner=owner, model_id=model_id)


def prepare(database: Database, storage: Storage, queue: FakeQueue, model_id: str) -> LibraryItem:
    return asyncio.run(
        library.prepare(
            database=database, storage=storage, queue=queue, owner="me", model_id=model_id
        )
    )


def settle(database: Database, storage: Storage, queue: FakeQueue) -> None:
    asyncio.run(library.settle_preparations(database=database, storage=storage, queue=queue))


def age(database: Database, model_id: str) -> None:
    with database.write() as session:
        row = session.get_one(LibraryModel, model_id)
        assert row.preparing_since is not None
        row.preparing_since -= library.SETTLING + timedelta(seconds=1)
        session.add(row)


def put_prepared(storage: Storage, model_id: str) -> None:
    with atomic_directory(storage.base_model(model_id)) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")


def test_what_ships_is_listed(database: Database, storage: Storage) -> None:
    found = list_library(database=database, storage=storage, owner="me")
    assert [entry.entry.id for entry in found] == list(built_in_library())
    assert item(database, storage, HUB_MODEL).state == "missing"
    with pytest.raises(NotFound):
        item(database, storage, "no/such")


def test_a_preparation_from_start_to_end(
    either_database: Database, storage: Storage, queue: FakeQueue
) -> None:
    database = either_database
    assert prepare(database, storage, queue, HUB_MODEL).state == "preparing"
    assert list(queue.jobs.values()) == [
        {"function": "prepare_base_model", "model_id": HUB_MODEL, "folder": None}
    ]
    assert prepare(database, storage, queue, HUB_MODEL).state == "preparing"
    assert len(queue.jobs) == 1
    put_prepared(storage, HUB_MODEL)
    assert item(database, storage, HUB_MODEL).state == "ready"
    settle(database, storage, queue)
    with database.read() as session:
        assert session.get_one(LibraryModel, HUB_MODEL).preparing_job is None
    assert prepare(database, storage, queue, HUB_MODEL).state == "ready"
    assert len(queue.jobs) == 1


def test_a_preparation_that_fails_says_why_and_can_be_repeated(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    prepare(database, storage, queue, HUB_MODEL)
    reason = storage.base_model(HUB_MODEL).with_suffix(".error.json")
    reason.parent.mkdir(parents=True)
    reason.write_text(json.dumps({"code": "not_found", "message": "The hub cannot be reached."}))
    age(database, HUB_MODEL)
    settle(database, storage, queue)
    assert item(database, storage, HUB_MODEL).state == "preparing"
    queue.jobs.clear()
    settle(database, storage, queue)
    failed = item(database, storage, HUB_MODEL)
    assert (failed.state, failed.error) == ("failed", "The hub cannot be reached.")
    assert prepare(database, storage, queue, HUB_MODEL).state == "preparing"
    assert len(queue.jobs) == 1


def test_a_fresh_job_is_not_declared_lost(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    prepare(database, storage, queue, HUB_MODEL)
    queue.jobs.clear()
    settle(database, storage, queue)
    assert item(database, storage, HUB_MODEL).state == "preparing"


def test_a_lost_job_without_a_reason_fails(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    prepare(database, storage, queue, HUB_MODEL)
    queue.jobs.clear()
    age(database, HUB_MODEL)
    settle(database, storage, queue)
    assert "try again" in str(item(database, storage, HUB_MODEL).error)


def test_while_redis_is_away_nothing_starts_and_nothing_is_declared(
    database: Database, storage: Storage, queue: FakeQueue
) -> None:
    queue.away = True
    with pytest.raises(Unavailable) as refused:
        prepare(database, storage, queue, HUB_MODEL)
    assert refused.value.code == "queue_unavailable"
    assert item(database, storage, HUB_MODEL).state == "missing"
    queue.away = False
    prepare(database, storage, queue, HUB_MODEL)
    age(database, HUB_MODEL)
    queue.jobs.clear()
    queue.away = True
    settle(database, storage, queue)
    assert item(database, storage, HUB_MODEL).state == "preparing"


def test_a_local_folder_is_added_with_what_its_config_tells(
    database: Database, storage: Storage, queue: FakeQueue, imports: Path
) -> None:
    model_folder(imports)
    add_library_model(
        database=database, owner="me", import_root=imports, model_id="me/mine", folder="mine"
    )
    found = item(database, storage, "me/mine")
    assert found.state == "available"
    assert (found.entry.context_length, found.entry.architecture) == (512, "LlamaForCausalLM")
    assert (found.entry.family, found.entry.tokenizer) == ("causal", "ByT5Tokenizer")
    assert found.entry.parameters == 26_880 and "q_proj" in found.entry.target_modules
    prepare(database, storage, queue, "me/mine")
    assert [job["folder"] for job in queue.jobs.values()] == [str(imports / "mine")]
    with pytest.raises(NotFound):
        item(database, storage, "me/mine", owner="you")
    with pytest.raises(Conflict):
        add_library_model(database=database, owner="you", import_root=imports, model_id="me/mine")
    with pytest.raises(Conflict):
        add_library_model(
            database=database, owner="me", import_root=imports, model_id=BUNDLED_MODEL
        )


@pytest.mark.parametrize(
    "model_id",
    ["x", "../x", "a/b/c", "/etc/passwd", "a/../b", "http://x/y", "a/", "-a/b", "a/b\n", "é/x"],
)
def test_odd_ids_are_refused(database: Database, imports: Path, model_id: str) -> None:
    with pytest.raises(InvalidData) as refused:
        add_library_model(database=database, owner="me", import_root=imports, model_id=model_id)
    assert refused.value.param == "id"


def odd_folders(root: Path) -> dict[str, str]:
    """Folders that must not be registered, by what is wrong with them."""
    model_folder(root.parent, "outside")
    (root / "link").symlink_to(root.parent / "outside")
    linked = model_folder(root, "linked-file")
    (linked / "tokenizer.json").symlink_to("/etc/passwd")
    (model_folder(root, "pickle") / "model.safetensors").rename(root / "pickle" / "model.bin")
    model_folder(root, "code", auto_map={"AutoModel": "x.Y"})
    model_folder(root, "attention", _attn_implementation_internal="x/y")
    model_folder(root, "deep-code", text_config={"a": [{"auto_map": {"AutoModel": "x.Y"}}]})
    model_folder(root, "quantised", quantization_config={"bits": 4})
    model_folder(root, "unknown", model_type="mamba")
    gone = model_folder(root, "shard-gone")
    (gone / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-2.safetensors"}}'
    )
    shards = model_folder(root, "shards")
    (shards / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    (model_folder(root, "deep") / "config.json").write_text("[" * 100_000)
    (model_folder(root, "list") / "config.json").write_text("[]")
    (model_folder(root, "latin") / "config.json").write_bytes(b"\xff")
    pipe = model_folder(root, "pipe")
    (pipe / "config.json").unlink()
    os.mkfifo(pipe / "config.json")
    (root / "file").write_text("x")
    names = ("link", "linked-file", "pickle", "code", "attention", "shards", "deep", "list",
             "latin", "pipe", "file", "deep-code", "quantised", "unknown",
             "shard-gone")  # fmt: skip
    paths = {name: name for name in names}
    return paths | {"up": "../outside", "etc": "/etc", "root": ".", "nul": "a\0b", "none": "nope"}


ODD = ("link", "linked-file", "pickle", "code", "attention", "shards", "deep", "list", "latin",
       "pipe", "file", "deep-code", "quantised", "unknown", "shard-gone", "up", "etc", "root",
       "nul", "none")  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_odd_folders_are_refused(database: Database, imports: Path, kind: str) -> None:
    folder = odd_folders(imports)[kind]
    with pytest.raises(InvalidData) as refused:
        add_library_model(
            database=database, owner="me", import_root=imports, model_id="a/b", folder=folder
        )
    assert refused.value.param == "folder"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pickle", "model.bin is pickled, which can run code"),
        ("code", "never run"),
        ("deep-code", "'auto_map'"),
        ("quantised", "method qlora"),
        ("unknown", "'mamba' is not an architecture"),
        ("shard-gone", "model-2.safetensors"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    database: Database, imports: Path, kind: str, words: str
) -> None:
    folder = odd_folders(imports)[kind]
    with pytest.raises(InvalidData) as refused:
        add_library_model(
            database=database, owner="me", import_root=imports, model_id="a/b", folder=folder
        )
    assert words in refused.value.message


def test_a_hub_model_tells_of_itself_once_it_is_here(
    database: Database, storage: Storage, imports: Path
) -> None:
    add_library_model(
        database=database, owner="me", import_root=imports, model_id="me/hub", context_length=99
    )
    assert item(database, storage, "me/hub").entry.shape is None
    with atomic_directory(storage.base_model("me/hub")) as folder:
        model_folder(folder, ".", model_type="llama")
    found = item(database, storage, "me/hub")
    assert found.state == "ready" and found.entry.parameters == 26_880
    # What the user said of it stands.
    assert found.entry.context_length == 99
