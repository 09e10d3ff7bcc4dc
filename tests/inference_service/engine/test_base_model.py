"""Base models that are no plain weights are refused before a library reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from inference_service.engine.base_model import load_base_model
from shared.errors import InvalidData
from tests.trainer_service.tiny import save_tiny_model


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "asks for code"),
        ({"_attn_implementation_internal": "someone/kernel"}, "asks for code"),
        ({"model_type": "bert-of-nobody"}, "not a causal language model"),
        ({"model_type": None}, "not a causal language model"),
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
