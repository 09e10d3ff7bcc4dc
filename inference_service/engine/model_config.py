"""What a model's configuration says, and what is refused by it; loads no weights."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from shared.errors import InvalidData
from shared.runs import Family

# Encoder-decoders whose positions are T5's distances. (ByT5 and FLAN-T5 say "t5".)
SEQ2SEQ_KINDS = ("t5", "mt5")
# T5's distances have no end, but an encoder reads a source in one go, in which the others wait.
SEQ2SEQ_CONTEXT = 4096
_CODE_KEYS = ("auto_map", "custom_pipelines", "_attn_implementation_internal")


def checked_family(folder: Path, model_id: str) -> Family:
    """The family of the model in ``folder``. Refuses what could run code or read files outside the
    folder, before any library sees it, and kinds of models that the engine does not serve."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, suspicious = config["model_type"], [key for key in _CODE_KEYS if key in config]
        paired = bool(config.get("is_encoder_decoder"))
        shards = [
            name
            for index in folder.glob("*.index.json")
            for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"The configuration of {model_id} cannot be read.") from error
    if suspicious or any(Path(name).name != name for name in shards):
        raise InvalidData(f"{model_id} is refused: its configuration asks for code or other files.")
    if kind in SEQ2SEQ_KINDS:
        return "seq2seq"
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or paired:
        raise InvalidData(
            f"{model_id} ({kind}) is neither a causal language model nor an encoder-decoder of "
            "the T5 family."
        )
    return "causal"


def context_length(model: PreTrainedModel, family: Family, model_id: str) -> int:
    """Tokens of prompt and answer together; of the prompt alone for seq2seq."""
    config = model.config
    if family == "seq2seq":
        return max(int(getattr(config, "n_positions", None) or 0), SEQ2SEQ_CONTEXT)
    length = int(getattr(config, "max_position_embeddings", 2048))
    window = getattr(config, "sliding_window", None)
    # Without a list of layers, a window is every layer's. (Where a configuration can turn its
    # window off, transformers has then set it to none.)
    every = "sliding_attention" if window else "full_attention"
    kinds = set(getattr(config, "layer_types", None) or [every])
    if not kinds <= {"full_attention", "sliding_attention"}:
        raise InvalidData(f"{model_id} has layers that this engine does not know: {sorted(kinds)}.")
    if window and "sliding_attention" in kinds:
        # Within its window a sliding layer sees everything, as a full one does.
        length = min(length, int(window))
    return min([length, *_longrope_lengths(config)])


def _longrope_lengths(config: Any) -> list[int]:
    """Where the rotation of longrope changes. It does so for a whole batch once any of its rows is
    longer, and so makes answers depend on their company: such models are served up to there."""
    found = getattr(config, "rope_parameters", None) or {}
    tables = [table for table in (found, *found.values()) if isinstance(table, dict)]
    return [
        int(table["original_max_position_embeddings"])
        for table in tables
        if table.get("rope_type") == "longrope"
    ]


def stop_token_ids(model: PreTrainedModel, tokenizer: Any) -> tuple[int, ...]:
    found = getattr(model.generation_config, "eos_token_id", None)
    ids = list(found) if isinstance(found, list) else [found]
    return tuple(dict.fromkeys(i for i in (*ids, tokenizer.eos_token_id) if i is not None))


def sampling_default(model: PreTrainedModel, name: str, greedy: float) -> float:
    """The model's own default, as `generate` would use it: greedy unless it asks for sampling."""
    config = model.generation_config
    value = getattr(config, name, None)
    return float(value) if getattr(config, "do_sample", False) and value is not None else greedy
