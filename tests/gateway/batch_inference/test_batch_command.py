"""`genplat batch` as a person types it, over a live gateway."""

import json
import threading
from pathlib import Path

import pytest

from shared.model_library import BUNDLED_MODEL
from shared.storage import MANIFEST, sha256_of
from tests.gateway.api.live import Live
from tests.gateway.batch_inference.command_line import ROWS, batch, journal_lines, prompts, results
from tests.gateway.parts import until_true


def test_each_row_is_answered_in_the_datasets_order(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(live, "--from-config", config) == 0
    sha = sha256_of(live.services.storage.base_model(BUNDLED_MODEL) / MANIFEST)
    assert results(config.parent / "out") == [
        {
            "instructions": f"p{number}",
            "target_responses": f"c{number}",
            "candidate_responses": f"to p{number}",
            "model_id": BUNDLED_MODEL,
            "model_sha": sha,
        }
        for number in range(ROWS)
    ]
    assert live.inference.most_at_once <= 8
    assert {body["max_tokens"] for body in live.inference.asked} == {9}
    said = capsys.readouterr().out
    assert f"{ROWS} of {ROWS} rows are answered." in said and "tokens/s  ETA" in said
    # They are kept in the data folder, too.
    [kept] = (live.services.settings.root / "batches").iterdir()
    assert results(kept) == results(config.parent / "out")


def test_as_many_at_once_as_the_model_answers_or_as_is_said(live: Live, config: Path) -> None:
    live.inference.holds_for = 8
    assert batch(live, config) == 0
    assert live.inference.most_at_once == 8
    live.inference.most_at_once, live.inference.holds_for = 0, 3
    assert batch(live, config, "--name", "other", "--concurrency", "3") == 0
    assert live.inference.most_at_once == 3


def test_a_second_time_nothing_is_asked(live: Live, config: Path) -> None:
    assert [batch(live, config) for _ in range(2)] == [0, 0]
    assert set(prompts(live).values()) == {1}


def test_keys_are_flags(live: Live, config: Path) -> None:
    more = ("--offset", 10, "--limit=5", "--task_prefix", "Do: ", "--system-prompt", "Be brief.")
    assert batch(live, config, *more, "--temperature", "0.5", "--seed", 7, "--stop", "[x, y]") == 0
    found = results(config.parent / "out")
    assert [row["instructions"] for row in found] == [f"p{number}" for number in range(10, 15)]
    assert found[0]["candidate_responses"] == "to Do: p10"
    asked = live.inference.asked[-1]
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["temperature"], asked["seed"], asked["stop"]) == (0.5, 7, ["x", "y"])


def test_one_stop_needs_no_list_and_a_key_without_a_value_is_none(live: Live, config: Path) -> None:
    with config.open("a") as file:
        file.write("system_prompt:\nname: null\nstop: END\nlimit: 2\n")
    assert batch(live, config) == 0
    assert [body["stop"] for body in live.inference.asked] == [["END"]] * 2
    assert len(results(config.parent / "out")) == 2


def test_no_text_ends_a_line(live: Live, config: Path) -> None:
    text = "a\u2028b\x85c\u2029d"
    row = json.dumps({"prompt": text, "completion": "x"})
    (config.parent / "rows.jsonl").write_text(row + "\n")
    assert batch(live, config) == 0
    assert results(config.parent / "out")[0]["instructions"] == text


def test_another_batch_in_the_same_place_is_refused(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(live, config) == 0
    before = results(config.parent / "out")
    assert batch(live, config, "--max-tokens", 10) == 1
    assert "of another batch: max_tokens changed since" in capsys.readouterr().err
    assert results(config.parent / "out") == before
    assert batch(live, config, "--max-tokens", 10, "--name", "longer") == 0


def test_a_row_that_fails_keeps_its_place_and_is_told_of(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (config.parent / "rows.jsonl").open("a") as file:
        file.write('{"prompt": "refused", "completion": "c"}\n')
    assert batch(live, config) == 3
    assert results(config.parent / "out")[ROWS]["candidate_responses"] == ""
    said = capsys.readouterr().out
    assert f"Row {ROWS + 1} failed: Said too_long." in said and "--retry-failed" in said
    assert batch(live, config) == 3
    assert prompts(live)["refused"] == 1
    assert batch(live, config, "--retry-failed", "true") == 3
    assert prompts(live)["refused"] == 2 and prompts(live)["p1"] == 1


def test_where_nobody_answers_any_more_it_ends_and_goes_on_later(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live.inference.seconds_a_word = 0.2
    made = live.http.post("/api/keys", json={"name": "k", "scopes": ["infer"]}).json()
    journal = config.parent / "out" / "rows.journal"

    def revoke() -> None:
        until_true(lambda: journal_lines(journal) > 3)
        live.http.delete(f"/api/keys/{made['id']}").raise_for_status()

    person = threading.Thread(target=revoke)
    person.start()
    assert batch(live, config, "--concurrency", 2, "--key", made["key"]) == 1
    person.join()
    assert "not valid" in (said := capsys.readouterr().err) and "start it again" in said
    written = journal_lines(journal)
    assert 3 < written < ROWS
    live.inference.seconds_a_word = 0
    assert batch(live, config) == 0
    assert f"{written - 1} of {ROWS} rows were answered before." in capsys.readouterr().out
    assert len(results(config.parent / "out")) == ROWS


def test_for_machines(live: Live, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(live, config, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["event"] for line in lines} == {"progress", "batch"}
    told = lines[-1]["data"]
    assert (told["rows"], told["failed"], told["model_id"]) == (ROWS, 0, BUNDLED_MODEL)
    assert Path(told["parquet"]).is_file() and told["commit_url"] is None


def test_a_dataset_of_the_platform_by_name_and_without_output_dir(live: Live, config: Path) -> None:
    with (config.parent / "rows.jsonl").open("rb") as file:
        made = live.http.post("/api/datasets", data={"name": "my rows"}, files={"file": file})
    assert made.status_code == 201
    for named in ("my rows", made.json()["id"]):
        given = ("--dataset", named, "--model", BUNDLED_MODEL, "--limit", "3")
        assert batch(live, *given) == 0
    folders = sorted((live.services.settings.root / "batches").iterdir())
    assert len(folders) == 2 and any(folder.name.startswith("my-rows-") for folder in folders)
    for folder in folders:
        [path] = folder.glob("*.jsonl")
        assert len(results(folder, path.stem)) == 3


def test_a_dataset_of_a_hub(live: Live, tmp_path: Path) -> None:
    folder = live.services.settings.dataset_import_root / "me" / "data"
    folder.mkdir(parents=True)
    (folder / "test.csv").write_text("text,target\na,b\n")
    given = ("--dataset", "me/data", "--split", "test", "--model", BUNDLED_MODEL)
    assert batch(live, *given, "--output-dir", tmp_path / "out") == 0
    assert [row["instructions"] for row in results(tmp_path / "out", "me-data")] == ["a"]
