"""Adapters that do not fit are refused with a reason, before they can answer wrongly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_service.engine.base_model import BaseModel
from inference_service.engine.lora import CONFIG_FILE, WEIGHTS_FILE, load_adapter
from shared.errors import InvalidData
from shared.storage import Storage

Tensors = dict[str, torch.Tensor]
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def folder(tmp_path: Path, storage: Storage) -> Path:
    """A copy of a good adapter, to be spoiled."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (tmp_path / name).write_bytes((storage.run_result("run_a") / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 2}},
        {"r": 0},
        {"r": 4},
        {"lora_alpha": None},
        {"bias": "all"},
    ],
)
def test_settings_that_would_change_the_result_are_refused(
    folder: Path, base: BaseModel, change: dict[str, Any]
) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | change))
    with pytest.raises(InvalidData) as caught:
        load_adapter(folder, base.projections)
    assert caught.value.code == "bad_adapter"


def without_partner(tensors: Tensors) -> None:
    del tensors[FIRST]


def transposed(tensors: Tensors) -> None:
    tensors[FIRST] = tensors[FIRST].t().contiguous()


def with_a_stranger(tensors: Tensors) -> None:
    tensors["base_model.model.model.embed_tokens.weight"] = torch.zeros(2, 2)


def for_no_layer(tensors: Tensors) -> None:
    for half in "AB":
        name = f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"
        tensors[name.replace("layers.0", "layers.9")] = tensors[name].clone()


def not_finite(tensors: Tensors) -> None:
    tensors[FIRST][0, 0] = float("nan")


def empty(tensors: Tensors) -> None:
    tensors.clear()


@pytest.mark.parametrize(
    "spoil", [without_partner, transposed, with_a_stranger, for_no_layer, not_finite, empty]
)
def test_tensors_that_do_not_fit_are_refused(
    folder: Path, base: BaseModel, spoil: Callable[[Tensors], None]
) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    spoil(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(InvalidData) as caught:
        load_adapter(folder, base.projections)
    assert caught.value.code == "bad_adapter"


@pytest.mark.parametrize("raw", [b"", b"\xff" * 100, (2**62).to_bytes(8, "little") + b"{}"])
def test_files_that_are_no_safetensors_are_refused(
    folder: Path, base: BaseModel, raw: bytes
) -> None:
    (folder / WEIGHTS_FILE).write_bytes(raw)
    with pytest.raises(InvalidData, match="cannot be read"):
        load_adapter(folder, base.projections)
