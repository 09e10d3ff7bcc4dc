"""Base models that cannot be fetched or stored: a sentence with a way out."""

import errno
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest
from huggingface_hub import errors

from shared.model_library import (
    PreparationFailure,
    is_prepared,
    preparation_failure,
)
from shared.storage import Storage
from trainer_service.base_models import main, prepare_base_model
from trainer_service.exit_codes import DISK_FULL, exit_code_of

MINE = "me/mine"


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


def refusing(kind: type[errors.HfHubHTTPError], status: int) -> Callable[..., NoReturn]:
    """Stands in for a hub that answers with an error."""
    hub = importlib.import_module(errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])

    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        request = hub.Request("GET", "https://hub.invalid/me/mine")
        raise kind(
            f"{status} for https://hub.invalid", response=hub.Response(status, request=request)
        )

    return refuse


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (errors.GatedRepoError, 403, ("accept its licence", "HF_TOKEN", "GENPLAT_MODEL_ROOT")),
        (errors.RepositoryNotFoundError, 404, ("The hub has no model me/mine", "HF_TOKEN")),
        (errors.HfHubHTTPError, 503, ("the hub cannot be reached", "GENPLAT_MODEL_ROOT")),
    ],
)
def test_what_the_hub_refuses_is_a_sentence_with_a_way_out(
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[errors.HfHubHTTPError],
    status: int,
    words: tuple[str, ...],
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refusing(kind, status))
    assert main([MINE, "--data-dir", str(storage.root)]) == 1
    message = told(storage).message
    assert all(word in message for word in words) and "hub.invalid" not in message


def test_a_hub_model_of_pickles_alone_is_refused(
    storage: Storage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(source))
    assert main([MINE, "--data-dir", str(storage.root)]) == 1
    message = told(storage).message
    assert "has no safetensors on the hub" in message and "save_pretrained" in message


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
