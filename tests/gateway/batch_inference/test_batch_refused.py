"""What `genplat batch` cannot do is said in one line, before any model is asked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.api.live import Live
from tests.gateway.batch_inference.command_line import answering, batch
from tests.gateway.conftest import gateway_settings
from tests.valkey import Valkey


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey) -> Iterator[Live]:
    """One for all: nothing is answered here."""
    with answering(gateway_settings(tmp_path_factory.mktemp("gateway"), valkey_server)) as live:
        yield live


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--dataset", "nobody"), "neither a file nor the id or name of a dataset"),
        (("--dataset", "ds_nobody"), "ds_nobody"),
        (("--model", "nobody"), "no model 'nobody'"),
        (("--offset", "1000"), "no row behind the first 1,000"),
        (("--temperature", "9"), "temperature: "),
        (("--concurrency", "0"), "concurrency must be"),
        (("--concurrency", "many"), "concurrency: "),
        (("--name", "../x"), "name must be"),
        (("--name", "x\n"), "name must be"),
        (("--push-to-hub", "me/mine"), "HF_TOKEN is not set"),
        (("--push-to-hub", "mine"), "push_to_hub: "),
        (("--key", "gp-wrong"), "not valid"),
        (("--text-column", "a"), "no column 'a'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    live: Live,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert batch(live, config, *more) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("genplat: ") and said in line
    assert live.inference.asked == [] and not (config.parent / "out").exists()


def test_wrong_lines_of_a_file_are_told_of(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n')
    assert batch(live, config) == 1
    assert "Line 2" in capsys.readouterr().err


def test_a_flag_or_key_that_means_nothing(
    live: Live, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        batch(live, config, "--max-new-tokens=1")
    assert "Did you mean --max-tokens?" in capsys.readouterr().err
    config.write_text("modell: x\n")
    assert batch(live, config) == 1
    assert "Did you mean model?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"prompt": "a"}, {"prompt": ""}], "Line 2"),
        ([{"prompt": "a"}, {"other": "b"}], "Line 2"),
        ([{"other": "a"}], "Line 1"),
        ([{"messages": [{"role": "user", "content": "a"}]}, {"messages": []}], "Line 2"),
        ([{"messages": [{"role": "system", "content": "s"}]}], "Line 1"),
    ],
)
def test_what_is_no_question_is_told_of_by_line(
    live: Live,
    tmp_path: Path,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[Any],
    told: str,
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert batch(live, config) == 1
    assert told in capsys.readouterr().err and live.inference.asked == []
