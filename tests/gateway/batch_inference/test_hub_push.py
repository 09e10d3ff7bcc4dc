"""What lands in a dataset repository of a hub: a real server with the hub's shapes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.batch_inference import hub_push
from gateway.batch_inference.results import Results
from gateway.client import CommandFailed
from gateway.datasets.hub_import import Wanted, fetched
from tests.gateway.datasets.hub_server import SHA, Hub, running_hub

# The hub's library sends bytes in a way of its HTTP client that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

ROW = {
    "instructions": "a",
    "target_responses": "b",
    "candidate_responses": "c",
    "model_id": "m",
    "model_sha": "d",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(Hub({})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        # Where the hub offers it, its own transfer needs servers that this one has not.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


@pytest.fixture
def results(tmp_path: Path) -> Results:
    import pyarrow as pa
    import pyarrow.parquet as pq

    results = Results.at(tmp_path, "mine")
    results.jsonl.write_text(json.dumps(ROW) + "\n")
    pq.write_table(pa.Table.from_pylist([ROW]), results.parquet)
    return results


def test_both_files_and_a_card_land_in_a_new_private_repository(
    hub: Hub, results: Results, tmp_path: Path
) -> None:
    url = hub_push.push(results, repo="me/answers", private=True)
    assert url == f"{hub.url}/datasets/me/answers/commit/{SHA}"
    [made] = hub.made
    assert made == {
        "name": "answers",
        "organization": "me",
        "type": "dataset",
        "visibility": "private",
    }
    held = hub.repos["me/answers"]
    assert held.keys() == {"data/mine.parquet", "jsonl/mine.jsonl", "README.md"}
    assert held["data/mine.parquet"] == results.parquet.read_bytes()
    assert held["jsonl/mine.jsonl"] == results.jsonl.read_bytes()
    assert b"data_files: data/*.parquet" in held["README.md"]
    assert hub.commits == ["Answers of the batch mine"]
    # It is a dataset that can be read again: the card says which files are its rows.
    wanted = Wanted("me/answers")
    with fetched(wanted, root=tmp_path / "no", folder=tmp_path, max_bytes=10**6) as (source, found):
        assert found.source == "hub" and source.read_bytes() == results.parquet.read_bytes()


def test_a_repository_that_is_there_keeps_its_card(hub: Hub, results: Results) -> None:
    hub.repos["me/answers"] = {"README.md": b"mine", "data/other.parquet": b"x"}
    hub_push.push(results, repo="me/answers", private=True)
    held = hub.repos["me/answers"]
    assert held["README.md"] == b"mine" and held["data/other.parquet"] == b"x"
    assert "data/mine.parquet" in held and hub.made == []


def test_a_token_that_may_not(hub: Hub, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(CommandFailed, match="start again to push") as caught:
        hub_push.push(results, repo="me/answers", private=True)
    assert "hf_bad" not in str(caught.value) and "401" in str(caught.value)


def test_a_token_from_a_file(hub: Hub, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{hub.token}\n")
    hub_push.check_push("me/answers")
    assert hub_push.push(results, repo="me/answers", private=True).endswith(SHA)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_busy_is_asked_again(
    hub: Hub, results: Results, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(hub_push, "_PAUSES", (0.01, 0.01))
    hub.refusals = {"/commit/": [status, status]}
    assert hub_push.push(results, repo="me/answers", private=True).endswith(SHA)
    assert len(hub.commits) == 1
    hub.refusals = {"/commit/": [status] * 20}
    with pytest.raises(CommandFailed, match=f"{status}.*start again to push"):
        hub_push.push(results, repo="me/answers", private=True)
    assert len(hub.commits) == 1


def test_a_repository_in_which_one_may_not_write(hub: Hub, results: Results) -> None:
    hub.refusals = {"/preupload/": [403] * 20}
    with pytest.raises(CommandFailed, match="403"):
        hub_push.push(results, repo="me/answers", private=True)
    assert len(hub.refusals["/preupload/"]) == 19


def test_a_hub_that_is_not_there(
    hub: Hub, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_push, "_PAUSES", (0.01,))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CommandFailed, match="start again to push"):
        hub_push.push(results, repo="me/answers", private=False)
