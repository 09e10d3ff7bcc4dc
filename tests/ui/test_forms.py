"""Forms: what was typed becomes a request, or errors beside the fields with nothing lost."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.routes import RouteRules
from shared.chat import ChatRequest
from shared.runs import FineTuneSpec
from tests.ui.gallery_runs import new_run_page
from ui import chat_form, route_form, run_fields, run_form
from ui.chat_form import ChatForm


def filled(**typed: Any) -> run_form.Values:
    return run_form.initial_values(dataset_id="ds_1", base_model="org/model") | typed


def test_an_untouched_form_asks_for_the_defaults() -> None:
    spec, errors = run_form.parse(filled())
    assert errors == {}
    assert spec == FineTuneSpec(dataset_id="ds_1", base_model="org/model")


OTHER_VALUES: dict[str, Any] = {
    "base_model": "other/model",
    "dataset_id": "ds_2",
    "datasets": [{"id": "ds_2", "weight": "2"}],
    "validation_dataset_id": "ds_3",
    "validation_split": "0.25",
    "method": "full",
    "preset": "thorough",
    "continue_from": "run_9",
    "suffix": "mine",
    "seed": "7",
    "task_prefix": " fix: ",
    "num_train_epochs": "2.5",
    "max_steps": "70",
    "learning_rate": "0.002",
    "per_device_train_batch_size": "3",
    "gradient_accumulation_steps": "5",
    "max_length": "128",
    "max_target_length": "64",
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
    "early_stopping_patience": "4",
    "load_best_model_at_end": "false",
    "gradient_checkpointing": "true",
    "devices": "2",
    "sharding": "none",
}
# Several datasets come instead of the one.
ALONG = {"datasets": {"dataset_id"}}


@pytest.mark.parametrize("name", list(FineTuneSpec.model_fields))
def test_every_field_of_a_spec_can_be_set_in_the_form(name: str) -> None:
    page = new_run_page()
    assert f'name="{name}"' in page
    spec, errors = run_form.parse(filled(**{name: OTHER_VALUES[name]}))
    untouched, _ = run_form.parse(filled())
    assert errors == {} and spec is not None and untouched is not None
    changed = {key for key, value in spec if value != getattr(untouched, key)}
    assert changed == {name} | ALONG.get(name, set())


@pytest.mark.parametrize("typed", [{}, {"devices": "2", "method": "qlora"}])
def test_what_cannot_be_sharded_is_said_beside_the_field(typed: dict[str, str]) -> None:
    spec, errors = run_form.parse(filled(sharding="full", **typed))
    assert spec is None and errors["sharding"].startswith("Full ")


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


def test_the_presets_and_methods_of_the_form_are_those_of_a_spec() -> None:
    for name, options in (("preset", run_fields.PRESETS), ("method", run_fields.METHODS)):
        parsed = [run_form.parse(filled(**{name: value}))[0] for value, _, _ in options]
        found = [getattr(spec, name) for spec in parsed]
        choices = get_args(FineTuneSpec.model_fields[name].annotation)
        assert sorted(found) == sorted(choices)


def sent(*rows: tuple[str, str], **texts: str) -> run_form.Values:
    """A form as a browser sends it, with rows of further data."""
    names, weights = [name for name, _ in rows], [weight for _, weight in rows]
    form = {name: [text] for name, text in texts.items()}
    form |= {"base_model": ["org/model"], "datasets": names, "weights": weights}
    return run_form.submitted_values(form)


def test_several_datasets_come_with_their_weights_and_empty_rows_are_dropped() -> None:
    values = sent(("", ""), ("ds_2", " 0,5 "), ("ds_3", ""), dataset_id="ds_1")
    spec, errors = run_form.parse(values)
    assert errors == {} and spec is not None
    assert [(source.id, source.weight) for source in spec.sources] == [
        ("ds_1", 1.0),
        ("ds_2", 0.5),
        ("ds_3", 1.0),
    ]
    shown = run_form.rows_to_show(values)
    assert [row["id"] for row in shown] == ["ds_2", "ds_3", ""]


def test_one_dataset_with_a_weight_is_a_mix_of_one() -> None:
    spec, _ = run_form.parse(sent(dataset_id="ds_1", dataset_weight="2"))
    assert spec is not None and spec.dataset_id is None
    assert [(source.id, source.weight) for source in spec.sources] == [("ds_1", 2.0)]


@pytest.mark.parametrize(
    ("rows", "first", "place", "said"),
    [
        ((("ds_2", "much"),), "1", "weight-1", "Write a number"),
        ((("ds_2", "0"),), "1", "weight-1", "greater than 0"),
        ((("ds_2", "nan"),), "1", "weight-1", "finite"),
        ((("ds_2", "1"),), "-1", "weight-0", "greater than 0"),
        ((("ds_1", "2"),), "1", "datasets", "twice"),
        (tuple((f"ds_{n}", "1") for n in range(2, 20)), "1", "datasets", "at most"),
    ],
)
def test_what_is_wrong_with_a_mix_is_said_at_its_row(
    rows: tuple[tuple[str, str], ...], first: str, place: str, said: str
) -> None:
    spec, errors = run_form.parse(sent(*rows, dataset_id="ds_1", dataset_weight=first))
    assert spec is None and list(errors) == [place]
    assert said in errors[place]


def test_an_untouched_prefix_is_the_models_own_and_an_empty_one_is_none() -> None:
    untouched, _ = run_form.parse(filled())
    emptied, _ = run_form.parse(filled(task_prefix=""))
    assert untouched is not None and untouched.task_prefix is None
    assert emptied is not None and emptied.task_prefix == ""


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("learning_rate", "fast", "Write a number"),
        ("learning_rate", "nan", "This must be"),
        ("lora_r", "1.5", "Write a whole number"),
        ("target_modules", " , ", "all-linear"),
        ("load_best_model_at_end", "maybe", "on, off or auto"),
        ("preset", "magic", "fast"),
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


SPECS = st.builds(
    lambda data, several, **rest: FineTuneSpec(
        base_model="org/model",
        dataset_id=None if several else "ds_1",
        datasets=[{"id": f"ds_{n}", "weight": weight} for n, weight in enumerate(data)]
        if several
        else [],
        **rest,
    ),
    data=st.lists(st.floats(1e-6, 100, allow_nan=False), min_size=2, max_size=16),
    several=st.booleans(),
    method=st.sampled_from(["full", "lora", "qlora"]),
    preset=st.sampled_from(["fast", "balanced", "thorough"]),
    validation_dataset_id=st.sampled_from([None, "ds_v"]),
    continue_from=st.sampled_from([None, "run_9", "run_9:ckpt-step-40"]),
    task_prefix=st.sampled_from([None, "", "fix: "]),
    seed=st.integers(0, 2**31 - 1),
    lora_r=st.one_of(st.just("auto"), st.integers(1, 512)),
    learning_rate=st.one_of(st.just("auto"), st.floats(1e-7, 1)),
    target_modules=st.sampled_from(["auto", "all-linear", ["q_proj", "v_proj"]]),
    early_stopping_patience=st.one_of(st.just("auto"), st.integers(0, 9)),
    load_best_model_at_end=st.sampled_from(["auto", True, False]),
)


@given(SPECS)
def test_a_form_like_an_earlier_run_asks_for_the_same(spec: FineTuneSpec) -> None:
    again, errors = run_form.parse(run_form.values_like(spec.model_dump(mode="json")))
    assert (again, errors) == (spec, {})


def test_advanced_fields_open_only_where_something_is_changed() -> None:
    assert not run_form.changed_advanced(filled())
    assert run_form.changed_advanced(filled(seed="7"))
    assert run_form.changed_advanced(filled(), {"lora_r": "wrong"})
    assert not run_form.mixes(filled())
    assert run_form.mixes(filled(dataset_weight="2"))
    assert run_form.mixes(filled(), {"weight-0": "wrong"})


@pytest.mark.parametrize(
    ("sticky", "balance"), [("user", "weights"), (None, "weights"), (None, "fastest")]
)
def test_a_route_goes_through_its_form_unchanged(sticky: str | None, balance: str) -> None:
    targets: list[dict[str, Any]] = [
        {"deployment": "a", "weight": 0.5},
        {"deployment": "b", "weight": 9.0, "timeout_seconds": 2.5},
        {"upstream": "large", "weight": 1.0},
    ]
    fallbacks = [{"deployment": "c"}, {"upstream": "large", "timeout_seconds": 30.0}]
    shadow = {"deployment": "d", "share": 0.25}
    values = route_form.values_of("support", targets, fallbacks, sticky, balance, shadow)
    rules = {"targets": targets, "fallbacks": fallbacks, "sticky": sticky, "balance": balance}
    rules["shadow"] = shadow
    parsed = route_form.parse(values)
    assert parsed.pop("name") == "support"
    stored = RouteRules.model_validate(rules)
    assert RouteRules.model_validate(parsed) == stored


def test_empty_rows_of_a_route_are_dropped_and_offered_again() -> None:
    values = route_form.submitted_values(
        name=["support"], target=["", "a"], weight=["", ""], fallback=["", ""]
    )
    assert route_form.parse(values)["targets"] == [{"deployment": "a", "weight": 1}]
    assert values["targets"][-1] == {"label": "", "weight": "", "seconds": ""}
    assert route_form.parse(values)["shadow"] is None


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
