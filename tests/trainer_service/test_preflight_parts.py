"""The parts of a pre-flight report that need no model, each for itself."""

from typing import Any

import pytest

from shared.datasets import Message, Record
from shared.hyperparameters import resolve_hyperparameters
from shared.memory import Longest, model_of
from shared.model_library import built_in_library
from shared.preflight import DataReport, LabelReport
from shared.prompt_template import PromptTemplate
from shared.runs import FineTuneSpec, Hyperparameters
from shared.storage import Storage
from tests.trainer_service.runs import make_job
from tests.trainer_service.tiny import prepare_tiny_model, tiny_tokenizer
from trainer_service.hardware import Device, find_cpu
from trainer_service.preflight_advice import (
    warn_of_data,
    warn_of_devices,
    warn_of_rows,
    warn_of_settings,
)
from trainer_service.preflight_data import look_at
from trainer_service.preflight_fit import look_at_memory
from trainer_service.preflight_rows import (
    LEFT_OUT,
    look_at_labels,
    look_at_lengths,
    percentile,
    show,
)
from trainer_service.reading import Limits
from trainer_service.spreading import Plan
from trainer_service.tokenizing import IGNORED, PairRow, Row
from trainer_service.warm_up import Workload, measure, typical

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEMPLATE = PromptTemplate(base_model="x", stop_token_ids=(2,))


def pair(prompt: str, completion: str) -> Record:
    return Record.from_pair(prompt, completion)


def numbers(spec: FineTuneSpec, examples: int = 1000) -> Hyperparameters:
    return resolve_hyperparameters(spec, examples=examples, context_length=8192)


def spec(**changes: Any) -> FineTuneSpec:
    return FineTuneSpec.model_validate({"base_model": SMOLLM2, "dataset_id": "d"} | changes)


def test_what_comes_twice_or_is_on_both_sides_or_empty_is_counted() -> None:
    training = [pair("a", "1"), pair("a", "1"), pair("a", "2"), pair("b", " "), pair(" ", "3")]
    validation = [pair("a", "1"), pair("b", "new"), pair("c", "4")]
    assert look_at(training, validation) == DataReport(
        training=5,
        validation=3,
        duplicates=1,
        overlapping_sources=2,
        overlapping_records=1,
        empty_answers=1,
        empty_sources=1,
    )


def test_an_empty_turn_that_is_not_learned_is_no_empty_answer() -> None:
    turns = [
        Message(role="user", content="a"),
        Message(role="assistant", content="", weight=0),
        Message(role="user", content="b"),
        Message(role="assistant", content="c"),
    ]
    assert look_at([Record(messages=tuple(turns))], []).empty_answers == 0


def row(length: int, learned: int, *, ends: bool = True) -> Row:
    tokens = [5] * (length - 1) + [2 if ends else 5]
    return Row(tuple(tokens), tuple([IGNORED] * (length - learned) + tokens[length - learned :]))


def test_lengths_are_counted_whole_and_held_against_the_limit() -> None:
    (found,) = look_at_lengths([row(n, 1) for n in range(1, 101)], Limits(90, 5))
    assert (found.what, found.over, found.fate) == ("row", 10, "left out")
    assert (found.median, found.percentile_95, found.longest) == (50, 95, 100)
    assert sum(each.count for each in found.histogram) == 100
    assert found.histogram[0].start == 1 and found.histogram[-1].end > 100


def test_of_pairs_sources_are_cut_and_targets_left_out() -> None:
    source, target = look_at_lengths([PairRow((1,) * 9, (2,) * 4)], Limits(5, 3))
    assert (source.what, source.over, source.fate) == ("source", 1, "cut")
    assert (target.what, target.over, target.fate) == ("target", 1, "left out")
    assert target.field == "max_target_length"


@pytest.mark.parametrize(("share", "value"), [(50, 2), (95, 3), (100, 3), (1, 1)])
def test_a_percentile_is_one_of_the_values(share: int, value: int) -> None:
    assert percentile([1, 2, 3], share) == value


def test_labels_tell_what_is_learned_and_whether_it_ends() -> None:
    found = look_at_labels([row(10, 4), row(10, 0), row(10, 2, ends=False)], TEMPLATE)
    assert found == LabelReport(
        rows=3, tokens=30, learned_tokens=6, rows_without_learned=1, rows_without_end=2
    )
    assert found.learned_share == pytest.approx(0.2)


def test_a_row_is_shown_as_it_is_read_with_its_special_tokens() -> None:
    tokenizer = tiny_tokenizer()
    prompt = tokenizer.encode("<|im_start|><b>", add_special_tokens=False)
    answer = tokenizer.encode("ok<|im_end|>", add_special_tokens=False)
    shown = show(tokenizer, Row((*prompt, *answer), (*[IGNORED] * len(prompt), *answer)))
    assert [(piece.text, piece.learned) for piece in shown.pieces] == [
        ("<|im_start|><b>", False),
        ("ok<|im_end|>", True),
    ]
    long = show(tokenizer, PairRow(tuple(prompt) * 1000, tuple(answer)))
    assert long.pieces[-1].text == "ok<|im_end|>" and long.pieces[-1].learned
    assert len(long.pieces[0].text) < 10_000 and LEFT_OUT in long.pieces[0].text
    assert long.pieces[0].text.endswith("<|im_start|><b>")


def device(gigabytes: float, kind: Any = "cpu") -> Device:
    return Device(kind=kind, name="A", memory_bytes=int(gigabytes * 1e9))


def plan(base_model: str = SMOLLM2, longest: int = 1000, shorter: int = 100, **asked: Any) -> Plan:
    entry = built_in_library()[base_model]
    model = model_of(entry)
    assert model is not None
    decided = numbers(spec(base_model=base_model, **asked))
    return Plan(model, asked.get("method", "lora"), decided, Longest(longest), shorter)


def test_a_run_that_fits_is_left_alone() -> None:
    found = look_at_memory(plan(), device(24))
    assert found.fits and found.changes is None and "It fits." in found.sentence


@pytest.mark.parametrize(
    ("gigabytes", "kind", "changes"),
    [
        # On a CPU passes are limited already: the batch size changes nothing and is not named.
        (2.5, "cpu", {"gradient_checkpointing": True}),
        (1.4, "cpu", {"gradient_checkpointing": True, "method": "qlora"}),
        (3.5, "cuda", {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    ],
)
def test_the_settings_that_make_it_fit_do(
    gigabytes: float, kind: Any, changes: dict[str, Any]
) -> None:
    wanted = plan(per_device_train_batch_size=8, lora_r=8)
    found = look_at_memory(wanted, device(gigabytes, kind))
    assert not found.fits and found.changes is not None and found.then is not None
    assert set(found.changes) >= set(changes) and found.changes.items() >= changes.items()
    assert found.then.total <= 0.9 * device(gigabytes).memory_bytes < found.need.total
    for name in changes:
        assert name in found.sentence


def test_full_training_is_told_of_qlora_and_a_large_model_of_a_smaller_one() -> None:
    full = look_at_memory(plan(method="full"), device(2.5))
    assert full.changes is not None and full.changes["method"] == "qlora"
    huge = look_at_memory(plan("Qwen/Qwen2.5-7B-Instruct"), device(4))
    assert huge.changes is not None and "base_model" in huge.changes
    assert huge.then is not None and huge.then.total <= 3.6e9
    nothing = look_at_memory(plan(), device(0.2))
    assert nothing.changes is None and "use a larger device" in nothing.sentence


def settings_warnings(examples: int = 1000, **changes: Any) -> str:
    asked = spec(**changes)
    return " ".join(
        warn_of_settings(
            asked,
            numbers(asked, examples),
            examples=examples,
            context_length=8192,
            family="causal",
            parameters=None,
        )
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.5}, "1000 times what is usual"),
        ({"learning_rate": 1e-9}, "far below"),
        ({"max_length": 100_000}, "beyond what the model can read (8192"),
        ({"max_steps": 2}, "2 optimizer steps"),
        ({"num_train_epochs": 50}, "50 times"),
        ({"method": "full", "learning_rate": 1e-3}, "method full"),
    ],
)
def test_settings_that_go_wrong_are_warned_of(changes: dict[str, Any], words: str) -> None:
    assert words in settings_warnings(**changes)


def test_usual_settings_and_data_are_not_warned_of() -> None:
    assert settings_warnings() == settings_warnings(learning_rate=2e-3) == ""
    good = DataReport(
        training=100, validation=10, duplicates=0, overlapping_sources=0,
        overlapping_records=0, empty_answers=0, empty_sources=0,
    )  # fmt: skip
    assert list(warn_of_data(good)) == []
    bad = good.model_copy(
        update={"training": 3, "validation": 0, "duplicates": 2, "empty_answers": 1}
    )
    assert len(list(warn_of_data(bad))) == 4


def test_rows_that_do_not_fit_are_warned_of() -> None:
    rows = [row(10, 1), row(200, 1)]
    warnings = list(
        warn_of_rows(look_at_lengths(rows, Limits(100, 1)), look_at_labels(rows, TEMPLATE))
    )
    assert "Rows longer than max_length 100 tokens are left out: 1 of them" in warnings[0]
    assert "1.0% of all tokens are learned" in warnings[1]


def test_typical_rows_are_neither_the_shortest_nor_the_giant() -> None:
    sized = [(n, pair(str(n), "x")) for n in [*range(1, 100), 10_000]]
    chosen = [int(record.messages[0].content) for record in typical(sized, count=6)]
    assert len(chosen) == 6 and min(chosen) >= 50 and max(chosen) <= 95
    assert len(typical(sized[:3], count=6)) == 3


def test_validations_count_as_forward_passes() -> None:
    assert Workload(1000, 100, 4).in_training_tokens == 1200


def gpus(count: int, gigabytes: float) -> Device:
    return device(gigabytes, "cuda").model_copy(update={"count": count, "bf16": True})


def test_a_run_that_one_gpu_cannot_hold_is_told_of_more() -> None:
    large = plan("Qwen/Qwen2.5-7B-Instruct", method="full")
    found = look_at_memory(large, gpus(8, 80))
    assert not found.fits and found.changes is not None and found.then is not None
    assert found.changes["devices"] <= 8 and "devices" in found.sentence
    asked = look_at_memory(large._replace(devices=8), gpus(8, 80))
    assert asked.fits and asked.sharded
    assert "on each of 8 devices, among which the model is divided" in asked.sentence
    whole = look_at_memory(large._replace(devices=8, sharding="none"), gpus(8, 80))
    assert not whole.fits and whole.changes == {"sharding": "auto"}


def test_a_model_is_sharded_only_where_a_device_could_not_hold_the_run() -> None:
    small = plan(method="full")._replace(devices=2)
    assert not look_at_memory(small, gpus(2, 80)).sharded
    assert look_at_memory(small._replace(sharding="full"), gpus(2, 80)).sharded
    tight = look_at_memory(small, gpus(2, 5))
    assert tight.sharded and tight.need.total < look_at_memory(small, gpus(2, 80)).need.total
    four_bits = plan("Qwen/Qwen2.5-7B-Instruct", method="qlora")._replace(devices=2)
    crowded = look_at_memory(four_bits, gpus(8, 4))
    assert not crowded.sharded and "devices" not in (crowded.changes or {})


def test_processes_that_share_a_processor_are_told_to_be_one() -> None:
    two = plan()._replace(devices=2)
    found = look_at_memory(two, device(5))
    assert not found.fits and found.changes == {"devices": 1}
    assert "each process may plan with 2.2 GB" in found.sentence
    assert look_at_memory(plan(), device(5)).fits
    assert "no faster than one" in " ".join(warn_of_devices(2, "cpu"))
    assert [*warn_of_devices(1, "cpu"), *warn_of_devices(8, "cuda")] == []


def test_gpus_share_the_time_that_was_measured_and_processes_on_a_cpu_do_not(
    storage: Storage,
) -> None:
    prepare_tiny_model(storage)
    job = make_job(storage, devices=2)
    decided = numbers(job.spec)
    few = job.records[:8]
    report = measure(job, decided, few, Workload(1000, 10, 2), device=find_cpu())
    assert report.measured and report.shared_by == 1
