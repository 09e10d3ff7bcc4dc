"""The recipe from the shell: a file in, a model out, and one sentence where that cannot be."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from shared.datasets import Record
from shared.storage import Storage, manifest_problem
from tests.trainer_service.families import prepare_family
from tests.trainer_service.runs import small_records
from tests.trainer_service.tiny import TINY_MODEL
from trainer_service import exit_codes
from trainer_service.child_process import child_environment
from trainer_service.finetune import main
from trainer_service.outcomes import SENTENCES


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_the_shell_entry_needs_neither_queue_nor_gateway(
    storage: Storage,
    tmp_path: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GENPLAT_DATA_DIR", str(storage.root))
    write_shell_dataset(tmp_path / f"pairs.{suffix}", small_records(10))
    spec = {
        "base_model": TINY_MODEL,
        "dataset": f"pairs.{suffix}",
        "output_dir": "out",
        "max_steps": 3,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert main([str(tmp_path / "spec.json")]) == 0
    assert manifest_problem(tmp_path / "out" / "result") is None
    printed = capsys.readouterr().out
    assert "step 3/3" in printed and "tok/s" in printed
    assert main([str(tmp_path / "spec.json")]) == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.timeout(200)
def test_the_shell_entry_starts_a_process_for_each_device(
    storage: Storage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_shell_dataset(tmp_path / "pairs.jsonl", small_records(10))
    spec = {"base_model": TINY_MODEL, "dataset": "pairs.jsonl", "output_dir": "out"}
    spec |= {"max_steps": 3, "devices": 2, "sharding": "full", "lora_r": 4}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    ended = subprocess.run(
        (sys.executable, "-m", "trainer_service.finetune", str(tmp_path / "spec.json")),
        env=child_environment(os.environ) | {"GENPLAT_DATA_DIR": str(storage.root)},
        check=False,
    )
    assert ended.returncode == 0
    # One of them tells.
    said = capfd.readouterr()
    assert said.out.count("step 1/3  epoch") == 1 and said.out.count("model in") == 1
    assert "The model is sharded: each of 2 devices" in said.err
    assert manifest_problem(tmp_path / "out" / "result") is None


def write_shell_dataset(path: Path, records: list[Record]) -> None:
    if path.suffix == ".csv":
        lines = [f'"{r.messages[0].content}","{r.completion}"\n' for r in records]
        path.write_text("text,target\n" + "".join(lines))
    else:
        path.write_text("".join(r.model_dump_json() + "\n" for r in records))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dataset": "none.jsonl"}, "none.jsonl"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"unknown": 1}, "unknown"),
        ({"base_model": "nobody"}, "base_model"),
        ({"devices": 64}, "devices: 64 are asked for, and this worker has"),
        ({"sharding": "full"}, "set devices above 1"),
        ({"sharding": "full", "devices": 2, "method": "qlora"}, "four-bit"),
    ],
)
def test_a_bad_spec_is_one_clear_sentence(
    storage: Storage,
    tmp_path: Path,
    change: dict[str, object],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GENPLAT_DATA_DIR", str(storage.root))
    write_shell_dataset(tmp_path / "pairs.jsonl", small_records(4))
    spec = {"base_model": TINY_MODEL, "dataset": "pairs.jsonl", "output_dir": "out"} | change
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert main([str(tmp_path / "spec.json")]) == exit_codes.BAD_SPEC
    said = capsys.readouterr().err.strip().splitlines()
    assert word in said[-1] and "Traceback" not in "".join(said)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the address space")
def test_memory_that_runs_out_is_one_sentence(storage: Storage, tmp_path: Path) -> None:
    """T5 writes its scores down: a row of 30,000 tokens has more than this process may have."""
    prepare_family(storage, "t5")
    write_shell_dataset(tmp_path / "pairs.jsonl", [Record.from_pair("x" * 30_000, "y")])
    spec = {"base_model": "tests/t5", "dataset": "pairs.jsonl", "output_dir": "out"}
    spec |= {"max_steps": 1, "max_length": 40_000, "validation_split": 0}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    ended = subprocess.run(
        (sys.executable, "-m", "trainer_service.finetune", str(tmp_path / "spec.json")),
        env=child_environment(os.environ) | {"GENPLAT_DATA_DIR": str(storage.root)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (10**10, 10**10)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == exit_codes.DEVICE_OUT_OF_MEMORY
    assert SENTENCES[exit_codes.DEVICE_OUT_OF_MEMORY] in ended.stderr
    assert "Traceback" not in ended.stderr
