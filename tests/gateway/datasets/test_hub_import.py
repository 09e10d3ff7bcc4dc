"""Imports from a folder, from the cache of Hugging Face's libraries, and from a hub."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.database import Database
from gateway.datasets import store
from gateway.datasets.hub_import import Wanted, import_dataset
from gateway.tables import Dataset
from shared.datasets import read_records
from shared.errors import Forbidden, InvalidData, NotFound, TooLarge, Unavailable
from shared.storage import Storage
from tests.gateway.datasets.hub_server import SHA, Hub, running_hub

ROW = b'{"prompt":"a%d","completion":"b"}\n'
REPO = "org/data"


def parquet(prompt: str, count: int = 1) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"prompt": [prompt] * count, "completion": ["b"] * count}), out)
    return out.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the real hub, or looks into the real cache."""
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def fetch(database: Database, storage: Storage, root: Path) -> Any:
    def run(wanted: Wanted, **options: Any) -> Dataset:
        fields = {"owner": "me", "max_bytes": 10_000_000, "root": root} | options
        return import_dataset(database=database, storage=storage, wanted=wanted, **fields)

    return run


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def prompts(storage: Storage, dataset: Dataset) -> list[str]:
    path = storage.dataset_records(dataset.id)
    return [record.prompt[0].content for record in read_records(path)]


def test_a_folder_of_one_file(fetch: Any, storage: Storage, root: Path) -> None:
    write(root / REPO, {"data/train-00000-of-00001.parquet": parquet("a", 3)})
    made = fetch(Wanted(REPO))
    assert (made.name, made.rows, made.file_type) == ("data", 3, "parquet")
    assert made.imported_from == {
        "repo": REPO, "config": None, "split": "train", "revision": None,
        "source": "folder", "files": 1,
    }  # fmt: skip
    # The repository's own file stays as it was.
    assert (root / REPO / "data/train-00000-of-00001.parquet").stat().st_nlink == 1
    assert list(storage.temporary().iterdir()) == []


@pytest.mark.parametrize(
    ("shards", "names"),
    [
        ([parquet("a"), parquet("b"), parquet("c")], "data/train-{}-of-3.parquet"),
        ([b'{"prompt":"%s","completion":"x"}' % name for name in (b"a", b"b", b"c")],
         "train-{}.jsonl"),
        ([b"prompt,completion\n%s,x\n" % name for name in (b"a", b"b", b"c")], "train/{}.csv"),
        ([b'[{"prompt":"%s","completion":"x"}]' % name for name in (b"a", b"b", b"c")],
         "train_{}.json"),
    ],
)  # fmt: skip
def test_shards_are_joined_in_their_order(
    fetch: Any, storage: Storage, root: Path, shards: list[bytes], names: str
) -> None:
    write(root / REPO, {names.format(index): shard for index, shard in enumerate(shards)})
    made = fetch(Wanted(REPO))
    assert prompts(storage, made) == ["a", "b", "c"]
    assert (made.file_type, made.imported_from["files"]) == ("jsonl", 3)


def test_splits_configs_and_options(fetch: Any, storage: Storage, root: Path) -> None:
    readme = (
        b"---\nconfigs:\n- config_name: de\n  data_files:\n  - split: held\n    path: x.csv\n---\n"
    )
    write(root / REPO, {"README.md": readme, "x.csv": b"q,a\nb,c\n,d\n"})
    named = {"text_column": "q", "target_column": "a", "skip_bad_rows": True, "name": "mine"}
    made = fetch(Wanted(REPO, "de", "held"), **named)
    assert (made.name, made.rows, made.skipped_rows) == ("mine", 1, 1)
    assert made.mapping == {"text_column": "q", "target_column": "a"}
    assert fetch(Wanted(REPO, "de", "held"), **(named | {"name": None})).name == "data-held"
    with pytest.raises(InvalidData, match="q"):
        fetch(Wanted(REPO, "de", "held"))
    with pytest.raises(NotFound, match=r"Its configs are de\."):
        fetch(Wanted(REPO, "fr", "held"))


def test_wrong_lines_of_a_shard_are_told_of(fetch: Any, root: Path) -> None:
    write(root / REPO, {"train-0.jsonl": ROW % 0 + b"{\n", "train-1.jsonl": ROW % 1})
    with pytest.raises(InvalidData, match="Line 2"):
        fetch(Wanted(REPO))
    assert fetch(Wanted(REPO), skip_bad_rows=True).skipped_rows == 1


def test_the_limit_of_uploads_holds(fetch: Any, root: Path) -> None:
    write(root / REPO, {"train-0.jsonl": ROW * 0 + b"x" * 600, "train-1.jsonl": b"x" * 600})
    with pytest.raises(TooLarge):
        fetch(Wanted(REPO), max_bytes=1000)


@pytest.mark.parametrize(
    "repo",
    ["..", "../x", "org/..", "/etc", "org/data/more", "", ".org/x", "org/x--y", "a\0b", "org\\x"],
)
def test_odd_repositories_are_refused(fetch: Any, repo: str) -> None:
    with pytest.raises(InvalidData) as refused:
        fetch(Wanted(repo))
    assert refused.value.param == "repo"


@pytest.mark.parametrize("revision", ["../../x", "a/../../b", "/etc", "", "a b"])
def test_odd_revisions_are_refused(fetch: Any, revision: str) -> None:
    with pytest.raises(InvalidData) as refused:
        fetch(Wanted(REPO, revision=revision))
    assert refused.value.param == "revision"


def test_links_that_lead_out_are_not_followed(fetch: Any, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(ROW % 0)
    write(root / REPO, {"README.md": b"x"})
    (root / REPO / "train.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(NotFound, match="no file of the split"):
        fetch(Wanted(REPO))
    (root / "org/out").symlink_to(tmp_path)
    write(tmp_path, {"train.jsonl": ROW % 0})
    with pytest.raises(Unavailable):
        fetch(Wanted("org/out"))


def test_the_cache_of_the_hubs_libraries(fetch: Any, storage: Storage, tmp_path: Path) -> None:
    """The layout that huggingface_hub documents under "Understand caching": refs, snapshots,
    blobs."""
    stored = tmp_path / "hf/hub/datasets--org--data"
    write(stored, {"blobs/abc": ROW % 7, f"snapshots/{SHA}/README.md": b"x"})
    write(stored, {"refs/main": SHA.encode(), "refs/pr/1": b"gone"})
    (stored / f"snapshots/{SHA}/train.jsonl").symlink_to("../../blobs/abc")
    made = fetch(Wanted(REPO))
    assert prompts(storage, made) == ["a7"]
    assert (made.imported_from["source"], made.imported_from["revision"]) == ("cache", SHA)
    assert fetch(Wanted(REPO, revision=SHA)).rows == 1
    # What the cache does not hold is asked of the hub, which must not be asked here.
    for wanted in (Wanted(REPO, split="test"), Wanted(REPO, revision="pr/1")):
        with pytest.raises(Unavailable, match="HF_HUB_OFFLINE"):
            fetch(wanted)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repos = {
        REPO: {
            "README.md": b"---\nlicense: mit\n---\n", "data/train-0.parquet": parquet("a"),
            "data/train-1.parquet": parquet("b"), "data/test-0.parquet": parquet("c"),
            "loader.py": b"raise SystemExit",
        },
        "org/gated": {"train.jsonl": ROW % 0},
        "org/odd": {"../../../train.jsonl": ROW % 0, "tr\u00e4in/train.jsonl": ROW % 1},
    }  # fmt: skip
    with running_hub(Hub(repos, gated=frozenset({"org/gated"}))) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url + "/")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield served


def test_from_the_hub(fetch: Any, storage: Storage, hub: Hub) -> None:
    made = fetch(Wanted(REPO))
    assert prompts(storage, made) == ["a", "b"]
    assert made.imported_from == {
        "repo": REPO, "config": None, "split": "train", "revision": SHA,
        "source": "hub", "files": 2,
    }  # fmt: skip
    # Everything comes from the commit that was listed, and no script is fetched.
    assert not any("loader.py" in path for path, _ in hub.seen)
    assert all(SHA in path for path, _ in hub.seen if "/resolve/" in path)
    assert list(storage.temporary().iterdir()) == []


def test_a_branch_with_slashes(fetch: Any, hub: Hub) -> None:
    assert fetch(Wanted(REPO, revision="refs/convert/parquet")).rows == 2
    assert hub.seen[0][0] == "/api/datasets/org/data/revision/refs%2Fconvert%2Fparquet"


def test_gated_data_needs_a_token_and_only_the_hub_sees_it(
    fetch: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Forbidden, match="HF_TOKEN"):
        fetch(Wanted("org/gated"))
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert fetch(Wanted("org/gated")).rows == 1
    fetch(Wanted(REPO))
    stored = [token for path, token in hub.seen if path.startswith("/blobs/")]
    assert stored == ["", ""]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("org/none"), "knows no dataset org/none"),
        (Wanted(REPO, revision="v9"), "no revision 'v9'"),
        (Wanted(REPO, split="dev"), "Its data files are data/train-0.parquet"),
    ],
)
def test_what_the_hub_does_not_have(fetch: Any, hub: Hub, wanted: Wanted, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        fetch(wanted)


def test_names_of_the_hub_make_no_paths(fetch: Any, storage: Storage, hub: Hub) -> None:
    before = sorted(os.listdir(storage.root.parent))
    assert fetch(Wanted("org/odd", "tr\u00e4in")).rows == 1
    with pytest.raises(NotFound):
        fetch(Wanted("org/odd"))
    assert sorted(os.listdir(storage.root.parent)) == before


def test_a_download_stops_at_the_limit(fetch: Any, storage: Storage, hub: Hub) -> None:
    hub.repos[REPO]["data/train-1.parquet"] = parquet("a" * 50_000)
    with pytest.raises(TooLarge):
        fetch(Wanted(REPO), max_bytes=2000)
    assert list(storage.temporary().iterdir()) == []


def test_a_hub_that_cannot_be_reached(
    fetch: Any, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="GENPLAT_DATASET_ROOT"):
        fetch(Wanted(REPO))
    assert store.list_datasets(database=database, owner="me").data == []
