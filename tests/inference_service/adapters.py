"""Random adapters as the trainer would store them, made and saved by PEFT itself."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from shared.prompt_template import PromptTemplate
from shared.storage import Storage, atomic_directory
from tests.trainer_service.tiny import CHATML, TINY_MODEL


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """PEFT still asks for a property that transformers calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def save_run_result(
    storage: Storage,
    run_id: str,
    *,
    rank: int = 8,
    seed: int = 1,
    model_id: str = TINY_MODEL,
    **config: Any,
) -> None:
    """The result folder of a run whose adapter changes every linear layer noticeably."""
    base = storage.base_model(model_id)
    seq2seq = AutoConfig.from_pretrained(base).is_encoder_decoder
    template = PromptTemplate(
        base_model=model_id,
        family="seq2seq" if seq2seq else "causal",
        chat_template="" if seq2seq else CHATML,
        stop_token_ids=(1,) if seq2seq else (2, 0),
    )
    with atomic_directory(storage.run_result(run_id)) as folder:
        save_adapter(folder, base, rank=rank, seed=seed, **config)
        template.save(folder)


@torch.no_grad()
def save_adapter(folder: Path, base: Path, *, rank: int = 8, seed: int = 1, **config: Any) -> None:
    """A random adapter over the model in ``base``, as PEFT writes it."""
    torch.manual_seed(seed)
    seq2seq = AutoConfig.from_pretrained(base).is_encoder_decoder
    auto: Any = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    settings = {"r": rank, "lora_alpha": 3 * rank, "target_modules": "all-linear", **config}
    settings["task_type"] = "SEQ_2_SEQ_LM" if seq2seq else "CAUSAL_LM"
    with quiet_peft():
        model = get_peft_model(auto.from_pretrained(base), LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.2)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
