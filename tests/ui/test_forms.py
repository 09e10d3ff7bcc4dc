"""Forms: what was typed becomes a request, or errors beside the fields with nothing lost."""

import json

import pytest

from shared.chat import ChatRequest
from shared.runs import FineTuneSpec
from tests.ui.gallery import new_run_page
from ui import chat_form, route_form, run_form
from ui.chat_form import ChatForm


def filled(**typed: str) -> dict[str, str]:
    return run_form.initial_values(dataset_id="ds_1", base_model="org/model") | typed


def test_an_untouched_form_asks_for_the_defaults() -> None:
    spec, errors = run_form.parse(filled())
    assert errors == {}
    assert spec == FineTuneSpec(dataset_id="ds_1", base_model="org/model")


OTHER_VALUES = {
    "base_model": "other/model",
    "dataset_id": "ds_2",
    "validation_dataset_id": "ds_3",
    "validation_split": "0.25",
    "method": "qlora",
    "suffix": "mine",
    "seed": "7",
    "task_prefix": " fix: ",
    "num_train_epochs": "2.5",
    "max_steps": "70",
    "learning_rate": "0.002",
    "per_device_train_batch_size": "3",
    "gradient_accumulation_steps": "5",
    "max_length": "128",
    "lr_scheduler_type": "cosine",
    "warmup_ratio": "0.2",
    "weight_decay": "0.01",
    "max_grad_norm": "0.5",
    "lora_r": "8",
    "lora_alpha": "24",
    "lora_dropout": "0.1",
    "target_modules": "q_proj, v_proj",
    "eval_steps": "9",
    "save_steps": "11",
    "gradient_checkpointing": "true",
}


@pytest.mark.parametrize("name", list(FineTuneSpec.model_fields))
def test_every_field_of_a_spec_can_be_set_in_the_form(name: str) -> None:
    page = new_run_page()
    assert f'name="{name}"' in page
    spec, errors = run_form.parse(filled(**{name: OTHER_VALUES[name]}))
    untouched, _ = run_form.parse(filled())
    assert errors == {} and spec is not None and untouched is not None
    changed = {key for key, value in spec if value != getattr(untouched, key)}
    assert changed == {name}


def test_with_validation_data_of_its_own_the_share_has_no_say() -> None:
    typed = filled(validation_dataset_id="ds_2", validation_split="nonsense")
    spec, errors = run_form.parse(typed)
    assert errors == {} and spec is not None
    assert (spec.validation_dataset_id, spec.validation_split) == ("ds_2", 0.1)


def test_typed_values_reach_the_spec() -> None:
    spec, errors = run_form.parse(
        filled(
            learning_rate=" 2e-3 ",
            lora_r="8",
            target_modules="q_proj, v_proj",
            gradient_checkpointing="false",
            task_prefix="fix: ",
            lr_scheduler_type="cosine",
        )
    )
    assert errors == {} and spec is not None
    assert (spec.learning_rate, spec.lora_r) == (0.002, 8)
    assert spec.target_modules == ["q_proj", "v_proj"]
    assert spec.gradient_checkpointing is False
    assert (spec.task_prefix, spec.lr_scheduler_type) == ("fix: ", "cosine")


def test_a_preset_gives_way_to_what_was_typed() -> None:
    quick, _ = run_form.parse(filled(preset="quick"))
    typed, _ = run_form.parse(filled(preset="quick", max_steps="7"))
    assert quick is not None and quick.max_steps == 40
    assert typed is not None and typed.max_steps == 7


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("learning_rate", "fast", "Write a number"),
        ("learning_rate", "nan", "This must be"),
        ("lora_r", "1.5", "Write a whole number"),
        ("lora_r", "0", "greater than or equal to 1"),
        ("validation_split", "1.5", "less than 1"),
        ("suffix", "../up", "Use letters"),
        ("dataset_id", "", "Choose one."),
        ("method", "magic", "lora"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(field: str, typed: str, said: str) -> None:
    spec, errors = run_form.parse(filled(**{field: typed}))
    assert spec is None
    assert list(errors) == [field]
    assert said in errors[field]


def test_a_form_like_an_earlier_run_asks_for_the_same() -> None:
    spec, _ = run_form.parse(filled(lora_r="8", target_modules="q_proj, v_proj", seed="7"))
    assert spec is not None
    again, errors = run_form.parse(run_form.values_like(spec.model_dump(mode="json")))
    assert (again, errors) == (spec, {})


def test_advanced_fields_open_only_where_something_is_changed() -> None:
    assert not run_form.changed_advanced(filled())
    assert run_form.changed_advanced(filled(seed="7"))


def test_a_route_goes_through_its_form_unchanged() -> None:
    targets = [{"deployment": "a", "weight": 0.5}, {"deployment": "b", "weight": 9.0}]
    values = route_form.values_of("support", targets, [{"deployment": "c"}])
    assert route_form.parse(values) == {
        "name": "support",
        "targets": [{"deployment": "a", "weight": "0.5"}, {"deployment": "b", "weight": "9"}],
        "fallbacks": ["c"],
    }


def test_empty_rows_of_a_route_are_dropped_and_offered_again() -> None:
    values = route_form.submitted_values(
        name=["support"], target=["", "a"], weight=["", ""], fallback=["", ""]
    )
    assert route_form.parse(values)["targets"] == [{"deployment": "a", "weight": 1}]
    assert values["targets"][-1] == {"deployment": "", "weight": ""}


def asked(form: ChatForm) -> ChatRequest:
    return ChatRequest.model_validate(chat_form.request_body(form))


def test_a_conversation_grows_with_each_answer() -> None:
    form = ChatForm(model="m", message=" one ")
    form = chat_form.answered(form, {"role": "assistant", "content": "two"})
    assert form.message == ""
    request = asked(form.model_copy(update={"message": "three"}))
    assert [message.text for message in request.messages] == ["one", "two", "three"]
    assert (request.max_tokens, request.temperature) == (512, 0)


def test_a_diagram_starts_from_its_scenario_alone() -> None:
    form = chat_form.answered(ChatForm(model="m", message="one"), {"content": "two"})
    request = asked(form.model_copy(update={"message": "draw", "mode": "diagram"}))
    assert [message.text for message in request.messages] == ["draw"]
    assert request.diagram is not None and request.diagram.max_attempts == 3


@pytest.mark.parametrize("history", ["", "no json", "{}", '[{"role": "system"}]'])
def test_a_broken_history_is_an_empty_one(history: str) -> None:
    assert chat_form.turns_of(ChatForm(history=history)) == []


def test_addresses_of_pictures_are_made_here_and_never_taken_from_the_browser() -> None:
    def shown(diagram_id: str) -> str | None:
        drawing = {"id": diagram_id, "rendered": True, "attempts": 1, "svg_url": "//evil.test"}
        turn = {"role": "assistant", "content": "x", "diagram": drawing}
        (found,) = chat_form.turns_of(ChatForm(history=json.dumps([turn])))
        assert found.diagram is not None
        return found.diagram.svg_url

    assert shown("dg_1") == "/api/diagrams/dg_1.svg"
    assert shown("../../logout") is None
