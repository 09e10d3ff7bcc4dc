"""Random adapters as the trainer would store them, made and saved by PEFT itself."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

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
    storage: Storage, run_id: str, *, rank: int = 8, seed: int = 1, **config: Any
) -> None:
    """The result folder of a run whose adapter changes every linear layer noticeably."""
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(storage.base_model(TINY_MODEL))
    settings = {"r": rank, "lora_alpha": 3 * rank, "target_modules": "all-linear", **config}
    with quiet_peft():
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    template = PromptTemplate(base_model=TINY_MODEL, chat_template=CHATML, stop_token_ids=(2, 0))
    with atomic_directory(storage.run_result(run_id)) as folder:
        model.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
        template.save(folder)
