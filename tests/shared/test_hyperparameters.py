"""Every "auto" is decided, and what the user chose stays."""

from hypothesis import given
from hypothesis import strategies as st

from shared.hyperparameters import resolve_hyperparameters
from shared.memory import Longest
from shared.runs import FineTuneSpec


def spec(**changes: object) -> FineTuneSpec:
    return FineTuneSpec.model_validate({"base_model": "a/b", "dataset_id": "ds_a"} | changes)


@given(examples=st.integers(1, 200_000), context=st.sampled_from([512, 2048, 8192]))
def test_every_auto_is_decided(examples: int, context: int) -> None:
    numbers = resolve_hyperparameters(spec(), examples=examples, context_length=context)
    assert "auto" not in numbers.model_dump().values()
    assert numbers.max_length <= context
    assert 1 <= numbers.save_steps <= numbers.max_steps
    assert 1 <= numbers.num_train_epochs <= 3
    batch = numbers.per_device_train_batch_size * numbers.gradient_accumulation_steps
    assert numbers.max_steps * batch >= examples


@given(st.integers(1, 100_000), st.sampled_from(["fast", "balanced", "thorough"]))
def test_checkpoints_of_the_usual_kind_are_evaluated(examples: int, preset: str) -> None:
    numbers = resolve_hyperparameters(spec(preset=preset), examples=examples, context_length=2048)
    assert numbers.save_steps % numbers.eval_steps == 0
    assert numbers.save_steps <= numbers.max_steps


def test_what_the_user_chose_stays() -> None:
    chosen = spec(max_steps=7, learning_rate=0.01, lora_r=4, target_modules=["q_proj"])
    numbers = resolve_hyperparameters(chosen, examples=100, context_length=2048)
    assert (numbers.max_steps, numbers.learning_rate, numbers.lora_r) == (7, 0.01, 4)
    assert numbers.lora_alpha == 8
    assert numbers.target_modules == ["q_proj"]


def test_long_rows_are_not_left_out_for_want_of_a_setting() -> None:
    def lengths(longest: Longest, context: int = 8192, **changes: object) -> tuple[int, int]:
        numbers = resolve_hyperparameters(
            spec(**changes), examples=100, context_length=context, longest=longest
        )
        return numbers.max_length, numbers.max_target_length

    assert lengths(Longest(1024, 256)) == (1024, 256)
    assert lengths(Longest(1025, 257)) == (2048, 512)
    assert lengths(Longest(9000, 9000)) == (2048, 512)
    assert lengths(Longest(1025), context=1500) == (1500, 256)
    assert lengths(Longest(1025, 257), max_length=900, max_target_length=30) == (900, 30)


def test_a_run_does_not_spend_its_time_on_validation() -> None:
    def eval_steps(examples: int, validation: int, **changes: object) -> int:
        numbers = resolve_hyperparameters(
            spec(**changes), examples=examples, context_length=2048, validation_examples=validation
        )
        assert numbers.save_steps % numbers.eval_steps == 0
        return numbers.eval_steps

    # Three epochs of 100 rows are 150 steps; ten rows beside them cost little.
    assert eval_steps(100, 10) == 15
    assert eval_steps(100, 0) == 15
    # 300 rows to learn from: 0.2 of their time are 120 rows, forward alone, six times 20.
    assert eval_steps(100, 20) == 25
    assert eval_steps(100, 1000) == 38
    assert eval_steps(700, 77, max_steps=40) == 10
    assert eval_steps(100, 1000, eval_steps=3, save_steps=3) == 3
