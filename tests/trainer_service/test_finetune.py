"""The recipe on a tiny model: it learns, and a resumed run is the run that was never stopped."""

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
from shared.run_events import Advanced, Measured, Sampled
from shared.storage import Storage, manifest_problem, write_manifest
from tests.trainer_service.recipe import losses, train
from tests.trainer_service.runs import make_command, make_job, write_dataset
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model, save_tiny_model
from trainer_service import exit_codes
from trainer_service.job_files import Job, SupervisedSpec, supervised_job


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
