"""The recipe on a tiny model: it learns, and a resumed run is the run that was never stopped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.llama.modeling_llama import LlamaAttention

from shared.datasets import Record
from shared.errors import InvalidRequest
from shared.model_library import is_prepared
from shared.prompt_template import PromptTemplate
from shared.run_events import Advanced, Checkpointed, Finished, Measured, Payload, Sampled
from shared.storage import Storage, manifest_problem, write_manifest
from tests.trainer_service.families import prepare_family
from tests.trainer_service.runs import make_command, make_job, small_records, write_dataset
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model, save_tiny_model
from trainer_service import exit_codes
from trainer_service.finetune import fine_tune, main
from trainer_service.hardware import Device
from trainer_service.job_files import Job, SupervisedSpec, supervised_job

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


def train(
    job: Job, *, check: Callable[[], None] = lambda: None
) -> tuple[list[Payload], Finished | None]:
    events: list[Payload] = []
    try:
        return events, fine_tune(job, events.append, check=check, device=CPU)
    except exit_codes.Preempted:
        return events, None


def losses(events: list[Payload]) -> dict[int, float]:
    return {
        event.step: event.loss
        for event in events
        if isinstance(event, Measured) and event.loss is not None
    }


def stop_after(calls: int) -> Callable[[], None]:
    """A check that asks to stop at its n-th call."""
    left = [calls]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise exit_codes.Preempted

    return check


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_loss_falls_and_the_result_is_whole(storage: Storage, method: str) -> None:
    job = make_job(
        storage,
        method=method,
        max_steps=60,
        eval_steps=30,
        save_steps=30,
        learning_rate=2e-3 if method == "full" else 2e-2,
        lora_r=8,
    )
    events, finished = train(job)
    by_step = losses(events)
    assert sorted(by_step) == list(range(1, 61))
    assert by_step[60] < 0.75 * by_step[1]
    evaluations = [e for e in events if isinstance(e, Measured) and e.eval_loss is not None]
    assert [e.step for e in evaluations] == [30, 60]
    assert (evaluations[1].eval_loss or 9) < (evaluations[0].eval_loss or 0)
    accuracies = [e.mean_token_accuracy for e in events if isinstance(e, Measured) and e.loss]
    assert accuracies[0] is not None and accuracies[-1] is not None
    assert 0 <= accuracies[0] < accuracies[-1] <= 1
    assert all(0 < (e.eval_mean_token_accuracy or 0) <= 1 for e in evaluations)
    assert any(isinstance(event, Sampled) for event in events)
    assert manifest_problem(job.result) is None
    assert finished is not None and finished.trained_tokens and finished.manifest_sha256
    template = PromptTemplate.load(job.result)
    assert template.base_model == TINY_MODEL and template.stop_token_ids == (2,)
    assert "<|im_start|>" in template.chat_template


@pytest.mark.parametrize(
    ("model", "method", "stop"),
    [
        *((TINY_MODEL, "lora", stop) for stop in (3, 10, 11, 25)),
        (TINY_MODEL, "qlora", 11),
        (TINY_MODEL, "full", 11),
        ("tests/t5", "lora", 11),
        ("tests/t5", "full", 3),
        ("tests/t5_v1_1", "full", 11),
        ("tests/gpt_neox", "full", 11),
    ],
)
def test_a_resumed_run_is_the_run_that_was_never_stopped(
    storage: Storage, model: str, method: str, stop: int
) -> None:
    if model != TINY_MODEL:
        prepare_family(storage, model.removeprefix("tests/"), dropout=0.1)
    # Dropout makes the random state count.
    spec = {"max_steps": 30, "save_steps": 10, "lora_dropout": 0.1, "eval_steps": 12}
    spec |= {"base_model": model, "method": method, "learning_rate": 1e-3}
    straight_events, unbroken = train(make_job(storage, "run_straight", **spec))
    job = make_job(storage, "run_resumed", **spec)
    # One call comes while setting up; evaluations call too.
    before, nothing = train(job, check=stop_after(stop + 1))
    assert nothing is None
    after, finished = train(job)
    assert finished is not None and unbroken is not None
    ours, theirs = losses(before) | losses(after), losses(straight_events)
    assert not set(losses(before)) & set(losses(after))
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 1e-4
    resumed = [e.resumed_from_step for e in after if isinstance(e, Advanced)]
    assert max(filter(None, resumed)) == len(losses(before))
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    straight = load_file(storage.run_result("run_straight") / file)
    again = load_file(job.result / file)
    assert straight.keys() == again.keys()
    for name, value in straight.items():
        assert torch.allclose(value, again[name], atol=1e-5)
    assert finished.trained_tokens == unbroken.trained_tokens


def test_the_two_newest_checkpoints_can_be_gone_on_from(storage: Storage) -> None:
    job = make_job(storage, max_steps=12, save_steps=3)
    events, _ = train(job)
    assert [e.step for e in events if isinstance(e, Checkpointed)] == [3, 6, 9, 12]
    assert sorted(path.name for path in job.checkpoints.glob("step-*")) == ["step-12", "step-9"]


def spoil_weights(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def spoil_by_truncation(folder: Path) -> None:
    file = folder / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def spoil_by_extra_pickle(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    "spoil", [spoil_weights, spoil_by_truncation, spoil_by_extra_pickle, spoil_manifest]
)
def test_a_spoiled_checkpoint_gives_way_to_an_older_one(
    storage: Storage, spoil: Callable[[Path], None]
) -> None:
    job = make_job(storage, max_steps=12, save_steps=4)
    # One call while setting up, eight steps, two evaluations.
    train(job, check=stop_after(11))
    assert {path.name for path in job.checkpoints.iterdir()} == {"step-4", "step-8"}
    spoil(job.checkpoints / "step-8")
    (job.checkpoints / "step-999999").mkdir()
    events, finished = train(job)
    assert finished is not None
    assert [e.resumed_from_step for e in events if isinstance(e, Advanced)].count(4) == 1


def test_a_stop_before_the_first_step_leaves_no_checkpoint(storage: Storage) -> None:
    job = make_job(storage)
    events, finished = train(job, check=stop_after(1))
    assert finished is None and not losses(events)
    assert not list(job.checkpoints.glob("step-*"))


def test_a_stop_where_a_checkpoint_was_just_saved_saves_it_no_second_time(
    storage: Storage,
) -> None:
    job = make_job(storage, max_steps=12, save_steps=4)
    before, _ = train(job, check=stop_after(6))
    after, _ = train(job, check=stop_after(1))
    assert [e.step for e in (*before, *after) if isinstance(e, Checkpointed)] == [4]


def test_what_a_later_step_left_behind_does_not_push_a_new_checkpoint_out(
    storage: Storage,
) -> None:
    """Folders of another spec and damaged ones may have higher numbers than the run has yet."""
    job = make_job(storage, max_steps=12, save_steps=4)
    for stale in (8, 20, 999999):
        (job.checkpoints / f"step-{stale}").mkdir(parents=True)
    train(job, check=stop_after(6))
    assert [path.name for path in job.checkpoints.iterdir()] == ["step-4"]
    events, finished = train(job)
    assert finished is not None
    assert [e.resumed_from_step for e in events if isinstance(e, Advanced)].count(4) == 1
    assert sorted(path.name for path in job.checkpoints.glob("step-*")) == ["step-12", "step-8"]


def test_a_sample_is_never_longer_than_what_is_learned(storage: Storage) -> None:
    fits, too_long = Record.from_pair("say 5", "it is 5!"), Record.from_pair("x" * 400, "no")
    job = make_job(storage, max_steps=2, max_length=100)
    job = Job(**{**vars(job), "validation": [too_long, fits]})
    events, finished = train(job)
    assert finished is not None and finished.eval_loss is not None
    assert [event.prompt for event in events if isinstance(event, Sampled)] == ["say 5"]


def test_a_run_whose_validation_does_not_fit_goes_on_without(storage: Storage) -> None:
    job = make_job(storage, max_steps=2, max_length=100)
    job = Job(**{**vars(job), "validation": [Record.from_pair("x" * 400, "no")]})
    events, finished = train(job)
    assert finished is not None and finished.eval_loss is None
    assert 0 in [e.validation_examples for e in events if isinstance(e, Advanced)]
    assert not [event for event in events if isinstance(event, Sampled)]


def test_a_base_model_that_nobody_prepared_comes_from_its_folder(
    storage: Storage, tmp_path: Path
) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    save_tiny_model(source)
    job = make_job(storage, base_model="me/mine", max_steps=2)
    job = Job(**{**vars(job), "base_model_folder": source})
    _, finished = train(job)
    assert finished is not None and is_prepared(storage, "me/mine")


def test_checkpoints_of_other_data_are_not_taken_up(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job(storage, max_steps=4, save_steps=2)
    train(job)
    shutil.rmtree(job.result)
    other = Job(**{**vars(job), "fingerprint": "other"})
    events, _ = train(other)
    assert sorted(losses(events)) == [1, 2, 3, 4]
    assert "another spec or dataset" in caplog.text


def test_accumulated_small_batches_learn_like_one_large_batch(storage: Storage) -> None:
    """The mean is over the step's learned tokens, so the cut does not matter."""
    results = []
    for name, batch, accumulation in (("run_one", 8, 1), ("run_four", 2, 4)):
        job = make_job(
            storage,
            name,
            max_steps=5,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
        )
        events, _ = train(job)
        results.append(losses(events))
    assert results[0] == pytest.approx(results[1], abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_gradient_checkpointing_computes_twice_and_changes_nothing(
    storage: Storage, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward: Any = LlamaAttention.forward
    passes = [0]

    def counted(layer: LlamaAttention, *arguments: Any, **named: Any) -> Any:
        passes[0] += torch.is_grad_enabled()
        return forward(layer, *arguments, **named)

    monkeypatch.setattr(LlamaAttention, "forward", counted)
    runs: list[tuple[Any, ...]] = []
    for name, checkpointing in (("run_plain", False), ("run_checkpointing", True)):
        passes[0] = 0
        # With dropout: the second pass must drop what the first one dropped.
        job = make_job(
            storage,
            name,
            method=method,
            max_steps=6,
            eval_steps=3,
            lora_dropout=0.1,
            gradient_checkpointing=checkpointing,
        )
        events, finished = train(job)
        assert finished is not None and finished.eval_loss is not None
        file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
        adapter = load_file(job.result / file)
        runs.append((passes[0], losses(events), finished.eval_loss, adapter))
    (once, *plain), (twice, *checkpointed) = runs
    assert twice == 2 * once > 0
    assert checkpointed[0] == pytest.approx(plain[0], abs=1e-5)
    assert checkpointed[1] == pytest.approx(plain[1], abs=1e-5)
    assert checkpointed[2].keys() == plain[2].keys()
    for key, value in plain[2].items():
        assert torch.allclose(value, checkpointed[2][key], atol=1e-5), key


def test_a_run_that_diverges_is_refused_and_leaves_nothing(storage: Storage) -> None:
    folder = prepare_tiny_model(storage, "tests/spoiled")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder)
    job = make_job(storage, base_model="tests/spoiled", save_steps=1)
    with pytest.raises(InvalidRequest, match="loss became nan at step 1: training diverged") as no:
        train(job)
    assert exit_codes.exit_code_of(no.value) == exit_codes.BAD_SPEC
    assert not job.result.exists() and not job.checkpoints.exists()


def test_a_run_is_validated_on_the_dataset_that_it_names(storage: Storage) -> None:
    others = [Record.from_pair(f"count to {n}", f"{n} and done") for n in range(3)]
    command = make_command(storage, max_steps=4, eval_steps=2, validation_split=0.5)
    command = command.model_copy(update={"validation": write_dataset(storage, "ds_val", others)})
    events, finished = train(supervised_job(SupervisedSpec(command=command, data_dir=storage.root)))
    (counted,) = [e for e in events if isinstance(e, Advanced) and e.train_examples is not None]
    # Nothing is split off beside it.
    assert (counted.train_examples, counted.validation_examples) == (24, 3)
    evaluations = [e for e in events if isinstance(e, Measured) and e.eval_loss is not None]
    assert [e.step for e in evaluations] == [2, 4]
    assert finished is not None and finished.eval_loss == evaluations[-1].eval_loss
    samples = [(e.prompt, e.target) for e in events if isinstance(e, Sampled)]
    assert samples == 2 * [("count to 0", "0 and done"), ("count to 1", "1 and done")]


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
