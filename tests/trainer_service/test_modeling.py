"""Precision rules, base models, adapters, and what is written of them."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    PreTrainedConfig,
)

from shared.errors import InvalidData, InvalidRequest
from shared.hardware import DeviceKind
from shared.hyperparameters import resolve_hyperparameters
from shared.prompt_template import PromptTemplate
from shared.runs import Hyperparameters
from shared.storage import Storage
from tests.trainer_service.runs import small_spec
from tests.trainer_service.tiny import CHATML, TINY_MODEL, save_tiny_model, tiny_tokenizer
from trainer_service import modeling
from trainer_service.adapters import add_adapter, learn_whole
from trainer_service.hardware import Device, Precision, choose_precision
from trainer_service.modeling import (
    context_length,
    load_base,
    load_weights,
    make_template,
    save_weights,
    trainable_parameters,
)
from trainer_service.quantizing import quantization_config

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


def small_numbers(**changes: object) -> Hyperparameters:
    return resolve_hyperparameters(small_spec(**changes), examples=24, context_length=512)


@pytest.mark.parametrize(
    ("kind", "name", "bf16", "precision"),
    [
        ("cpu", "AMD EPYC (AVX2)", False, "fp32"),
        ("cpu", "Xeon with AVX-512 bf16", True, "fp32"),
        ("cuda", "NVIDIA A100", True, "bf16"),
        ("cuda", "Tesla T4", False, "fp16"),
        ("mps", "arm64", False, "fp32"),
    ],
)
def test_the_number_format_suits_the_device(
    kind: DeviceKind, name: str, bf16: bool, precision: Precision
) -> None:
    device = Device(kind=kind, name=name, memory_bytes=1, bf16=bf16)
    assert choose_precision(device) == precision


def test_qlora_is_nf4_with_double_quantisation_and_the_devices_number_format() -> None:
    config = quantization_config(torch.float16)
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.float16


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_the_adapter_learns_and_it_is_fp32(storage: Storage, precision: Precision) -> None:
    base = load_base(storage.base_model(TINY_MODEL), method="lora", device=CPU, precision=precision)
    model = add_adapter(base, small_numbers(), seed=1)
    parameters = trainable_parameters(model)
    assert len(parameters) == 2 * 7 * 2
    assert all("lora_" in name for name in parameters)
    assert {value.dtype for value in parameters.values()} == {torch.float32}


def test_unknown_target_modules_name_the_field(storage: Storage) -> None:
    base = load_base(storage.base_model(TINY_MODEL), method="lora", device=CPU, precision="fp32")
    with pytest.raises(InvalidRequest) as caught:
        add_adapter(base, small_numbers(target_modules=["nowhere"]), seed=1)
    assert caught.value.param == "target_modules"


def test_a_model_that_keeps_all_its_activations_cannot_be_told_otherwise(storage: Storage) -> None:
    base = load_base(storage.base_model(TINY_MODEL), method="lora", device=CPU, precision="fp32")
    base.supports_gradient_checkpointing = False
    with pytest.raises(InvalidRequest) as caught:
        add_adapter(base, small_numbers(gradient_checkpointing=True), seed=1)
    assert caught.value.param == "gradient_checkpointing"


@pytest.mark.parametrize(
    ("modules", "name"),
    [(["q_proj", "lm_head"], "lm_head"), (["q_proj", "embed_tokens"], "model.embed_tokens")],
)
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_that_cannot_be_served_is_refused(
    tmp_path: Path, modules: list[str], name: str, tied: bool
) -> None:
    save_tiny_model(tmp_path, tie_word_embeddings=tied)
    base = load_base(tmp_path, method="lora", device=CPU, precision="fp32")
    with pytest.raises(InvalidData, match="'all-linear'") as caught:
        add_adapter(base, small_numbers(target_modules=modules), seed=1)
    assert caught.value.param == "target_modules" and name in caught.value.message


@pytest.mark.parametrize("modules", ["all-linear", ["c_attn"]])
def test_a_model_without_linear_layers_is_refused_whole(modules: object) -> None:
    config = GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    with pytest.raises(InvalidData, match="base_model") as caught:
        add_adapter(GPT2LMHeadModel(config), small_numbers(target_modules=modules), seed=1)
    assert caught.value.param == "target_modules" and "Conv1D" in caught.value.message


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (GPT2Config(n_positions=96), 96),
        (LlamaConfig(max_position_embeddings=512), 512),
        # Its positions have no end.
        (BloomConfig(), 2048),
    ],
)
def test_the_context_length_has_many_names(
    tmp_path: Path, config: PreTrainedConfig, length: int
) -> None:
    config.save_pretrained(tmp_path)
    assert context_length(tmp_path) == length


def test_of_several_chat_templates_the_default_is_learned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = {"tool_use": "tools", "default": CHATML}
    assert make_template(TINY_MODEL, "", tokenizer, 2).chat_template == CHATML
    assert not caplog.text
    tokenizer.chat_template = {"tool_use": "t", "rag": "r"}
    assert make_template(TINY_MODEL, "", tokenizer, 2).chat_template == ""
    assert "rag, tool_use" in caplog.text and "none is the default" in caplog.text


# PEFT's loader reads an attribute that transformers has renamed.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_a_saved_adapter_loads_in_peft_and_names_no_local_path(
    storage: Storage, tmp_path: Path
) -> None:
    folder = storage.base_model(TINY_MODEL)
    base = load_base(folder, method="lora", device=CPU, precision="fp32")
    model = add_adapter(base, small_numbers(), seed=1)
    for parameter in trainable_parameters(model).values():
        nn.init.normal_(parameter, std=0.1)
    template = PromptTemplate(base_model=TINY_MODEL, stop_token_ids=(2,))
    saved = tmp_path / "adapter"
    saved.mkdir()
    save_weights(model, template, saved, method="lora", base_folder=folder)
    assert sorted(path.name for path in saved.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "prompt_template.json",
    ]
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == TINY_MODEL
    assert str(folder) not in (saved / "adapter_config.json").read_text()
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), saved
    )
    ids = torch.arange(3, 20).unsqueeze(0)
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, again(ids).logits, atol=1e-5)
    assert len(load_file(saved / "adapter_model.safetensors")) == 28


def test_a_whole_model_is_saved_in_shards_and_put_back(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modeling, "SHARD_SIZE", "20KB")
    folder = storage.base_model(TINY_MODEL)
    template = PromptTemplate(base_model=TINY_MODEL, stop_token_ids=(2,))
    model = learn_whole(
        load_base(folder, method="full", device=CPU, precision="fp32"), small_numbers(), seed=1
    )
    assert len(trainable_parameters(model)) == len(list(model.parameters()))
    for value in model.parameters():
        nn.init.normal_(value, std=0.1)
    save_weights(model, template, tmp_path, method="full", base_folder=folder)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    ids = torch.arange(3, 20).unsqueeze(0)
    again = load_base(folder, method="full", device=CPU, precision="fp32")
    assert not torch.allclose(again(ids).logits, model(ids).logits)
    load_weights(again, tmp_path)
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert str(folder) not in (tmp_path / "config.json").read_text()


def test_weights_of_another_shape_are_refused_by_field(storage: Storage, tmp_path: Path) -> None:
    folder = storage.base_model(TINY_MODEL)

    def adapted(**changes: object) -> PeftModel:
        base = load_base(folder, method="lora", device=CPU, precision="fp32")
        return add_adapter(base, small_numbers(**changes), seed=1)

    template = PromptTemplate(base_model=TINY_MODEL, stop_token_ids=(2,))
    adapter = adapted(lora_r=4)
    save_weights(adapter, template, tmp_path, method="lora", base_folder=folder)
    for changes, field in (({"lora_r": 8}, "lora_r"), ({"target_modules": ["q_proj"]}, "target_m")):
        with pytest.raises(InvalidData, match=f"^{field}") as caught:
            load_weights(adapted(**changes), tmp_path)
        assert caught.value.param is not None and caught.value.param.startswith(field)
