"""Every architecture learns by every method, and what is saved is what was learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from shared.datasets import Record
from shared.model_library import SERVABLE
from shared.runs import FineTuneSpec
from shared.storage import Storage
from tests.trainer_service.families import CONFIGS, OTHERS, prepare_family
from tests.trainer_service.runs import small_records
from trainer_service.evaluating import validation_loss, write_samples
from trainer_service.hardware import Device, Precision
from trainer_service.job_files import Job, WeightedRecords
from trainer_service.modeling import DTYPES, load_base, load_weights, save_weights
from trainer_service.seq2seq_tokenizing import source_tokens
from trainer_service.tokenizing import render
from trainer_service.training_setup import Training, set_up

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)
PAIRS = [Record.from_pair(f"{a}{b}", f"{b}{a}{a}") for a in "abcdefgh" for b in "12345678"]
SEQ2SEQ = [name for name in CONFIGS if "t5" in name]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


def make_training(storage: Storage, name: str, records: list[Record], **spec: Any) -> Training:
    prepare_family(storage, name)
    numbers: dict[str, Any] = {
        "base_model": f"tests/{name}",
        "dataset_id": "ds",
        "validation_split": 0,
        "lora_r": 8,
        "warmup_ratio": 0.1,
    }
    job = Job(
        spec=FineTuneSpec.model_validate(numbers | spec),
        datasets=(WeightedRecords(records),),
        validation=records[:16],
        storage=storage,
        checkpoints=storage.run_checkpoints("run"),
        result=storage.run_result("run"),
        fingerprint="same",
    )
    return set_up(job, lambda _: None, check=lambda: None, device=CPU)


def learn(training: Training) -> None:
    for step in range(training.numbers.max_steps):
        rows = [training.lessons.rows[index] for index in training.order.rows(step)]
        training.optimizer.step(training.loss, rows, step)
    training.model.eval()


def validate(training: Training) -> tuple[float, float]:
    return validation_loss(
        training.loss,
        training.lessons.validation_rows,
        device="cpu",
        pad_token_id=training.lessons.pad_token_id,
        check=lambda: None,
    )


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 30).unsqueeze(0)
    more = {"decoder_input_ids": ids[:, :9]} if model.config.is_encoder_decoder else {}
    result: torch.Tensor = model(input_ids=ids, **more).logits
    return result


def answers(model: Any, training: Training, records: list[Record]) -> list[str]:
    """Greedy answers of transformers' own `generate`."""
    lessons, found = training.lessons, []
    for record in records:
        messages = lessons.template.prepare(record.prompt)
        if lessons.template.family == "seq2seq":
            text = messages[0].content
            ids, _ = source_tokens(lessons.tokenizer, text, max_length=lessons.numbers.max_length)
        else:
            text = render(lessons.tokenizer, lessons.template, messages, ask=True)
            ids = tuple(lessons.tokenizer.encode(text, add_special_tokens=False))
        output = model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=list(lessons.template.stop_token_ids),
            pad_token_id=lessons.pad_token_id,
        )[0]
        begin = 1 if lessons.template.family == "seq2seq" else len(ids)
        found.append(str(lessons.tokenizer.decode(output[begin:], skip_special_tokens=True)))
    return found


def reload(folder: Path, training: Training) -> Any:
    seq2seq = training.lessons.template.family == "seq2seq"
    kind: Any = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_64_rows_are_learned_by_heart_and_saved_as_a_model_to_serve(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    training = make_training(
        storage,
        name,
        PAIRS,
        method="full",
        max_steps=300,
        learning_rate=5e-3,
        per_device_train_batch_size=16,
    )
    before = validate(training)
    learn(training)
    after = validate(training)
    assert after[0] < 0.2 * before[0] and after[1] > 0.9
    saved = tmp_path / "saved"
    saved.mkdir()
    folder = training.lessons.folder
    save_weights(
        training.model, training.lessons.template, saved, method="full", base_folder=folder
    )
    assert {path.name for path in folder.iterdir()} - {"manifest.json"} <= {
        path.name for path in saved.iterdir()
    }
    served = reload(saved, training)
    learned = dict(training.model.named_parameters())
    assert all(torch.equal(value, learned[name]) for name, value in served.named_parameters())
    # (In training some layers are computed in fewer steps.)
    assert torch.allclose(logits_of(served), logits_of(training.model), rtol=1e-3, atol=1e-3)
    written = answers(served, training, PAIRS)
    exact = sum(a == record.completion for a, record in zip(written, PAIRS, strict=True))
    assert exact >= 0.9 * len(PAIRS)


def test_every_architecture_that_may_be_chosen_is_tried_here() -> None:
    tried = {make().model_type for make in (CONFIGS | OTHERS).values()}
    assert tried == SERVABLE


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("name", CONFIGS | OTHERS)
def test_an_adapter_learns_and_is_saved(
    storage: Storage, tmp_path: Path, name: str, method: str
) -> None:
    spec = {"method": method, "max_steps": 40, "learning_rate": 2e-2}
    training = make_training(storage, name, small_records(), **spec)
    before = validate(training)
    learn(training)
    after = validate(training)
    assert after[0] < 0.8 * before[0]
    save_weights(
        training.model,
        training.lessons.template,
        tmp_path,
        method=training.job.spec.method,
        base_folder=training.lessons.folder,
    )
    again = make_training(storage, name, small_records(), **spec)
    assert not torch.allclose(logits_of(again.model.eval()), logits_of(training.model))
    load_weights(again.model, tmp_path)
    assert torch.equal(logits_of(again.model), logits_of(training.model))
    samples = write_samples(
        training.model,
        training.lessons.tokenizer,
        training.lessons.template,
        training.lessons.validation_records,
        step=1,
        pad_token_id=training.lessons.pad_token_id,
        context_length=training.lessons.context_length,
        max_source_length=training.numbers.max_length,
    )
    assert [sample.target for sample in samples] == ["it is 0!", "it is 1!"]
    assert all(sample.output for sample in samples)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_are_quantised_one_by_one_to_what_the_whole_model_gives(
    storage: Storage, name: str
) -> None:
    """Beside bitsandbytes' own way; what is no linear layer, and the head, stay whole."""
    folder = prepare_family(storage, name)
    ours = load_base(folder, method="qlora", device=CPU, precision="fp32")
    whole = load_base(folder, method="lora", device=CPU, precision="fp32")
    kind = type(whole)
    theirs = kind.from_pretrained(
        folder, quantization_config=ours.config.quantization_config, device_map={"": "cpu"}
    )
    for module in theirs.modules():
        # (On some CPUs another form of the weights, which computes in bf16.)
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    assert torch.equal(logits_of(ours), logits_of(theirs))
    head = ours.get_output_embeddings()
    assert type(head) is nn.Linear
    assert torch.equal(head.weight, whole.get_output_embeddings().weight)
    assert (head.weight is ours.get_input_embeddings().weight) == (
        whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_linear_layer_is_quantised_but_the_head_and_t5s_wo(
    storage: Storage, name: str, precision: Precision
) -> None:
    """transformers keeps `wo` out of four bits: what it writes leaves the range of fp16."""
    folder = prepare_family(storage, name)
    model = load_base(folder, method="qlora", device=CPU, precision=precision)
    whole = load_base(folder, method="full", device=CPU, precision="fp32").state_dict()
    head = model.get_output_embeddings()
    linears = {key: module for key, module in model.named_modules() if type(module) is nn.Linear}
    stay = {key: module for key, module in linears.items() if module is not head}
    assert {key.rpartition(".")[2] for key in stay} == ({"wo"} if name in SEQ2SEQ else set())
    assert len(stay) == (sum(".wo." in key for key in whole) if name in SEQ2SEQ else 0)
    for key, module in stay.items():
        assert torch.equal(module.weight, whole[f"{key}.weight"].to(DTYPES[precision]))
    assert any(isinstance(module, Linear4bit) for module in model.modules())


def test_a_sample_ends_with_the_positions_that_a_model_has(storage: Storage) -> None:
    training = make_training(storage, "llama", small_records(), max_steps=1)
    lessons = training.lessons

    def sample(context_length: int) -> list[int]:
        written = write_samples(
            training.model.eval(),
            lessons.tokenizer,
            lessons.template,
            lessons.validation_records,
            step=1,
            pad_token_id=lessons.pad_token_id,
            context_length=context_length,
            max_source_length=training.numbers.max_length,
        )
        return [len(lessons.tokenizer.encode(one.output)) for one in written]

    asked = render(
        lessons.tokenizer, lessons.template, lessons.validation_records[1].prompt, ask=True
    )
    width = len(lessons.tokenizer.encode(asked, add_special_tokens=False))
    assert max(sample(256)) > 5
    # (An odd byte is shown as a sign of three.)
    assert max(sample(width + 1)) <= 3
    assert sample(width) == []


def test_a_source_with_several_answers_is_sampled_once(storage: Storage) -> None:
    answers = [Record.from_pair("same", answer) for answer in ("one", "two", "three")]
    training = make_training(storage, "llama", [*answers, *small_records()], max_steps=1)
    lessons = training.lessons
    written = write_samples(
        training.model.eval(),
        lessons.tokenizer,
        lessons.template,
        lessons.validation_records,
        step=1,
        pad_token_id=lessons.pad_token_id,
        context_length=lessons.context_length,
        max_source_length=training.numbers.max_length,
    )
    assert [sample.target for sample in written] == ["one", "it is 0!"]
