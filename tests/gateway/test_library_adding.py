"""Models that users add: what they tell of themselves, and which are refused."""

import os
from pathlib import Path

import pytest

from gateway.database import Database
from gateway.library import add_library_model
from shared.errors import Conflict, InvalidData, NotFound
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage, atomic_directory
from tests.gateway.library_parts import FakeQueue, item, model_folder, prepare


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    folder = tmp_path / "imports"
    folder.mkdir()
    return folder.resolve()


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
