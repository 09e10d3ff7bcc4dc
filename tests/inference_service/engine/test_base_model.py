"""Loading base models: what is refused before a library reads it, and what is read from them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from inference_service.engine.base_model import choose_precision, load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.prompts import encode_chat, encode_text
from inference_service.engine.requests import GenerationRequest
from shared.chat import Precision
from shared.datasets import Message
from shared.errors import InvalidData
from tests.inference_service.engine.generating import collect, generate, prompt
from tests.trainer_service.tiny import CHATML, save_tiny_model, tiny_config, tiny_tokenizer
from trainer_service import hardware
from trainer_service.modeling import DTYPES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "asks for code"),
        ({"_attn_implementation_internal": "someone/kernel"}, "asks for code"),
        ({"model_type": "bert-of-nobody"}, "neither a causal language model nor"),
        ({"model_type": None}, "neither a causal language model nor"),
    ],
)
def test_a_configuration_that_could_run_code_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    save_tiny_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InvalidData, match=reason):
        load_base_model(tmp_path, "bad/model", "fp32")


def test_an_index_that_points_outside_the_folder_is_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    index = {"weight_map": {"lm_head.weight": "../../elsewhere.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidData, match="other files"):
        load_base_model(tmp_path, "bad/model", "fp32")


def test_bf16_is_given_where_it_is_asked_for(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    assert load_base_model(tmp_path, "tiny", "bf16").precision == "bf16"
    assert load_base_model(tmp_path, "tiny", "auto").precision == "fp32"


class Gpu:
    """What torch says of a GPU that computes bf16, or of one on which torch emulates it."""

    name, total_memory = "a GPU", 2**34

    def __init__(self, *, native: bool) -> None:
        self.native = native

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return self.native or including_emulation

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", self.is_bf16_supported)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: self)


@pytest.mark.parametrize(
    ("native", "wanted", "dtype"),
    [
        (True, "auto", torch.bfloat16),
        (False, "auto", torch.float16),
        (True, "fp32", torch.float32),
        (False, "fp32", torch.float32),
        (True, "bf16", torch.bfloat16),
        # Slow, but asked for by name.
        (False, "bf16", torch.bfloat16),
    ],
)
def test_a_gpu_serves_in_the_half_precision_that_it_computes(
    monkeypatch: pytest.MonkeyPatch, native: bool, wanted: Precision, dtype: torch.dtype
) -> None:
    Gpu(native=native).put_in(monkeypatch)
    assert choose_precision(wanted) == (torch.device("cuda"), dtype)


@pytest.mark.parametrize("gpu", [Gpu(native=True), Gpu(native=False), None])
def test_unless_told_otherwise_serving_computes_in_the_format_of_training(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None
) -> None:
    if gpu is not None:
        gpu.put_in(monkeypatch)
    device = hardware.find_device()
    assert device.kind == ("cpu" if gpu is None else "cuda")
    assert DTYPES[hardware.choose_precision(device)] == choose_precision("auto")[1]


def save_random_model(folder: Path, kind: type[PreTrainedConfig], **changes: Any) -> None:
    """A tiny random model of another architecture, with the usual tokenizer."""
    settings = tiny_config().to_dict()
    names = ("model_type", "architectures", "rope_parameters", "head_dim")
    config = kind(**{k: v for k, v in settings.items() if k not in names} | changes)
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "changes", "length"),
    [
        (MistralConfig, {"sliding_window": 64}, 64),
        (MistralConfig, {"sliding_window": None}, 512),
        (MistralConfig, {"sliding_window": 4096}, 512),
        (Qwen2Config, {"sliding_window": 64, "use_sliding_window": False}, 512),
        (Qwen2Config, {"sliding_window": 64, "use_sliding_window": True}, 512),
        (
            Qwen2Config,
            {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1},
            64,
        ),
    ],
)
def test_the_context_ends_with_the_window_that_the_layers_have(
    tmp_path: Path, kind: type[PreTrainedConfig], changes: dict[str, Any], length: int
) -> None:
    save_random_model(tmp_path, kind, **changes)
    assert load_base_model(tmp_path, "tiny", "fp32").context_length == length


@pytest.mark.anyio
async def test_a_windowed_model_answers_as_generate_does(engine: Engine, tmp_path: Path) -> None:
    save_random_model(tmp_path, MistralConfig, sliding_window=64)
    base = load_base_model(tmp_path, "tiny", "fp32")
    ids = prompt(base, "A window of 64 tokens")
    request = GenerationRequest(base, ids, base.context_length - len(ids))
    assert (await collect(engine, request))[0] == generate(tmp_path, base, request, None)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        # Sees eight tokens back, where the slots' attention sees all of them.
        (MistralConfig, {"sliding_window": 8}, r"\(mistral\) gives other results here"),
        # Adds to its scores what depends on a mask of another shape.
        (FalconConfig, {"alibi": True}, r"\(falcon\) does not work with its cache"),
        # Caps its scores, which only its own attention does.
        (Gemma2Config, {"head_dim": 8}, "Gemma2ForCausalLM does not support"),
    ],
)
def test_an_architecture_that_the_engine_would_compute_otherwise_is_refused(
    tmp_path: Path, kind: type[PreTrainedConfig], changes: dict[str, Any], reason: str
) -> None:
    save_random_model(tmp_path, kind, **changes)
    with pytest.raises(InvalidData, match=f"some/model cannot be served by this engine.*{reason}"):
        load_base_model(tmp_path, "some/model", "fp32")


def test_truncation_and_padding_of_the_tokenizer_file_are_not_applied(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    file = str(tmp_path / "tokenizer.json")
    core = Tokenizer.from_file(file)
    core.enable_truncation(16)
    core.enable_padding(length=32)
    core.save(file)
    base = load_base_model(tmp_path, "tiny", "fp32")
    assert len(encode_text(base, "x" * 100)) == 100
    assert len(encode_text(base, "x")) == 1


@pytest.mark.parametrize(("name", "template"), [("default", CHATML), ("rag", "")])
def test_of_named_chat_templates_the_default_one_is_taken(
    tmp_path: Path, name: str, template: str
) -> None:
    save_tiny_model(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    templates = {name: CHATML, "tool_use": "{{ tools }}"}
    config["chat_template"] = [{"name": n, "template": t} for n, t in templates.items()]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    base = load_base_model(tmp_path, "tiny", "fp32")
    assert isinstance(base.tokenizer.chat_template, dict)
    assert base.chat_template == template
    text = base.tokenizer.decode(encode_chat(base, None, (Message(role="user", content="Hi"),)))
    expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n" if template else "Hi\n"
    assert text == expected
