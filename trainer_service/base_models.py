"""Prepares base models: whatever form they come in, they end as safetensors in the data folder.

Run as ``python -m trainer_service.base_models MODEL_ID --data-dir DIR [--folder DIR]``. Knows no
queue and no training. Nothing here runs code that a model brings along.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from shared import request_id
from shared.errors import GenPlatError, InvalidData, NotFound, StorageFull
from shared.logs import configure_logging_of_child
from shared.model_library import (
    REPO_ID,
    LibraryEntry,
    PreparationFailure,
    built_in_library,
    is_prepared,
)
from shared.storage import Storage, atomic_directory, atomic_file, sha256_of
from trainer_service.exit_codes import is_disk_full
from trainer_service.guards import die_with_parent

log = logging.getLogger(__name__)

_OFFLINE_COPY = "Or copy its folder below GENPLAT_MODEL_ROOT and add that folder to the library."


def prepare_base_model(storage: Storage, model_id: str, *, folder: Path | None = None) -> Path:
    """Make ``model_id`` loadable from the data folder; returns its place. Done once, whoever asks.

    ``folder`` is a local copy; without it the wheel of the library comes before the hub.
    """
    target = storage.base_model(model_id)
    with _locked(target.with_suffix(".lock")):
        if is_prepared(storage, model_id):
            return target
        entry = built_in_library().get(model_id)
        wheel = entry.wheel if entry else None
        log.info("Preparing %s (once; later starts load it in seconds).", model_id)
        if folder is not None:
            _copy(folder, target, entry)
        elif wheel is not None and (gguf := wheel.locate()) is not None:
            if sha256_of(gguf) != wheel.sha256:
                raise InvalidData(
                    f"{gguf.name} is not the file that GenPlat was tested with: its sha256 "
                    f"differs. Install the pinned version of {wheel.package} again."
                )
            _convert_gguf(gguf, target)
        else:
            _copy(_download(model_id), target, entry)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two processes never prepare one model at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _copy(source: Path, target: Path, entry: LibraryEntry | None) -> None:
    from trainer_service.model_files import copy_model

    if not source.is_dir():
        raise NotFound(f"The model folder {source} does not exist.", param="folder")
    with atomic_directory(target) as temporary:
        copy_model(source, temporary)
        _check_prepared(temporary)
        if entry is not None and entry.chat_template:
            _give_template(temporary, entry.chat_template)


def _give_template(folder: Path, chat_template: str) -> None:
    """The library's chat template for a tokenizer that has none, in the place where training,
    serving and previews all look for it."""
    from transformers import AutoTokenizer

    if not AutoTokenizer.from_pretrained(folder, local_files_only=True).chat_template:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantise through transformers and store as fp32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True
    )
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    # A GGUF file holds no generation config; without these generate() would not know when to stop.
    for config in (model.generation_config, model.config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    # The weights are whole now; marks of their quantised origin would keep them from being saved.
    vars(model).pop("hf_quantizer", None)
    vars(model.config).pop("quantization_config", None)
    with atomic_directory(target) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _check_prepared(temporary)


def _check_prepared(folder: Path) -> None:
    """What every later load relies on, looked at once where a clear sentence can still be said."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise InvalidData(
            f"The model's config or tokenizer cannot be read: {_first_line(error)}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise InvalidData(
            "The tokenizer names no end-of-text token (eos_token): answers never end."
        )
    if len(tokenizer) > config.get_text_config().vocab_size:
        raise InvalidData(
            "The tokenizer has more tokens than the model: they do not belong together."
        )


def _download(model_id: str) -> Path:
    """A copy from the hub or its cache; HF_HOME, HF_HUB_OFFLINE and HF_TOKEN are respected."""
    from huggingface_hub import errors, snapshot_download

    from trainer_service.model_files import COMPANIONS, WEIGHTS_INDEX

    if not REPO_ID.fullmatch(model_id):
        raise NotFound(
            f"{model_id} is neither in the model library nor a hub id like owner/name. Register "
            "its folder in the library, or choose another base_model.",
            param="base_model",
        )
    wanted = ["config.json", "*.safetensors", WEIGHTS_INDEX, *COMPANIONS]
    try:
        found = Path(snapshot_download(model_id, allow_patterns=wanted))
    except errors.GatedRepoError as error:
        raise NotFound(
            f"{model_id} is gated: accept its licence on the hub, set HF_TOKEN for the trainer and "
            f"prepare it again. {_OFFLINE_COPY}",
            param="base_model",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotFound(
            f"The hub has no model {model_id}, or it is private and HF_TOKEN may not see it: check "
            "the id, or set HF_TOKEN for the trainer and prepare it again.",
            param="base_model",
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        if is_disk_full(error):
            raise
        offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        reason = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise NotFound(
            f"{model_id} is not on this machine and {reason}. Allow the download. {_OFFLINE_COPY}",
            param="base_model",
        ) from error
    if not any(found.glob("*.safetensors")):
        raise InvalidData(
            f"{model_id} has no safetensors on the hub. Pickled weights (.bin) can run code and "
            "are not loaded: choose a repository with safetensors, or save the model with "
            "save_pretrained where you trust it and add that folder to the library.",
            param="base_model",
        )
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _explain(model_id: str, error: Exception) -> GenPlatError:
    """Whatever ended a preparation, as a sentence for people."""
    if isinstance(error, GenPlatError):
        return error
    if is_disk_full(error):
        return StorageFull(
            f"The disk is full: {model_id} could not be stored. Free space and prepare it again."
        )
    log.exception("Preparing %s failed", model_id, exc_info=error)
    # (Without the path of an `OSError`: it says nothing to a user, who may not see this machine.)
    why = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
    return GenPlatError(f"{model_id} could not be prepared ({type(error).__name__}): {why}.")


def _note(failure: Path, error: GenPlatError) -> None:
    log.error("%s", error.message)
    try:
        with atomic_file(failure) as handle:
            said = PreparationFailure(code=error.code, message=error.message[:2000])
            handle.write(said.model_dump_json().encode())
    except OSError as why:
        log.error("%s cannot be written: %s", failure, why)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer_service.base_models")
    parser.add_argument("model_id")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--parent-pid", type=int, default=0)
    parser.add_argument("--request-id", help="in what is logged")
    options = parser.parse_args(arguments)
    if options.parent_pid:
        die_with_parent(options.parent_pid)
    configure_logging_of_child()
    request_id.go_on(options.request_id)
    os.environ["TQDM_DISABLE"] = "1"
    storage = Storage(options.data_dir)
    failure = storage.base_model_failure(options.model_id)
    # Were this one killed, the reason of an earlier failure would be taken for its own.
    failure.unlink(missing_ok=True)
    try:
        place = prepare_base_model(storage, options.model_id, folder=options.folder)
    except Exception as error:
        _note(failure, _explain(options.model_id, error))
        return 1
    log.info("%s is ready in %s.", options.model_id, place)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
