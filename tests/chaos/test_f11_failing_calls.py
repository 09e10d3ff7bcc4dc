"""F11: each call that writes fails once: the n-th open, write, sync or rename, whichever that is.
What lies there afterwards is the old or the new, whole, and never a manifest with wrong hashes."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.storage import Storage, atomic_directory, atomic_file, manifest_problem
from tests.trainer_service.runs import make_job
from tests.trainer_service.tiny import prepare_tiny_model
from trainer_service.checkpoints import find_checkpoint
from trainer_service.finetune import fine_tune

pytestmark = pytest.mark.timeout(600)

ERRORS = [errno.EIO, errno.ENOSPC, errno.EINTR]
# More calls than any of these writes makes.
MOST = 400


class FailingWriter:
    """A file of which each write may fail."""

    def __init__(self, file: Any, faults: "Faults") -> None:
        self._file, self._faults = file, faults

    def write(self, data: bytes) -> int:
        self._faults.count("write")
        written: int = self._file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "FailingWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class Faults:
    """Counts calls, and has the n-th one fail."""

    def __init__(self, patch: pytest.MonkeyPatch, nth: int, number: int) -> None:
        self.left, self.number = nth, number
        self.failed = ""
        for name in ("open", "fsync", "rename", "replace"):
            patch.setattr(os, name, self._counted(f"os.{name}", getattr(os, name)))
        real = os.fdopen
        patch.setattr(os, "fdopen", lambda *a, **k: FailingWriter(real(*a, **k), self))
        patch.setattr(io, "open", self._counted("open", io.open))

    def count(self, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.failed = name
            raise OSError(self.number, os.strerror(self.number))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count(name)
            return real(*arguments, **options)

        return call


def each_fault(number: int, prepare: Callable[[], None], write: Callable[[], object]) -> int:
    """Do ``write`` with its first call failing, its second, and so on until none fails; afterwards
    each time what ``prepare`` set up is looked at. How many calls there were."""
    for nth in range(1, MOST):
        prepare()
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, nth, number)
            try:
                write()
            except OSError as error:
                assert error.errno == number
        if not faults.failed:
            return nth - 1
    raise AssertionError("there is no end to its calls")


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.__getitem__)
def test_a_file_is_the_old_or_the_new(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def look() -> None:
        assert path.read_bytes() in (b"old", b"new")
        assert list(tmp_path.iterdir()) == [path]
        path.write_bytes(b"old")

    def write() -> None:
        with atomic_file(path) as handle:
            handle.write(b"new")

    assert each_fault(number, look, write) >= 5
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.__getitem__)
def test_a_folder_is_the_old_or_the_new(tmp_path: Path, number: int) -> None:
    path = tmp_path / "folder"

    def write(content: str = "new") -> None:
        with atomic_directory(path) as folder:
            (folder / "one").write_text(content)
            (folder / "two").write_text(content)

    def look() -> None:
        assert manifest_problem(path) is None
        assert (path / "one").read_text() == (path / "two").read_text()
        # Where removing itself fails, the rest is left to the sweep.
        assert {other.suffix for other in tmp_path.iterdir() if other != path} <= {".tmp"}
        write("old")

    write("old")
    assert each_fault(number, look, write) >= 10
    assert (path / "one").read_text() == "new"


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.__getitem__)
def test_training_leaves_no_checkpoint_with_wrong_hashes(tmp_path: Path, number: int) -> None:
    """Every seventh call of a short training in turn; the next one goes on from what is whole."""
    storage = Storage(tmp_path)
    prepare_tiny_model(storage)
    job = make_job(storage, max_steps=4, save_steps=2)
    calls = 0
    for nth in range(1, MOST, 7):
        calls = nth
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, nth, number)
            try:
                fine_tune(job, lambda _: None, check=lambda: None)
            except Exception as error:
                assert faults.failed, error
        for folder in job.checkpoints.glob("step-*[0-9]"):
            assert manifest_problem(folder) is None, faults.failed
        find_checkpoint(job.checkpoints, fingerprint=job.fingerprint)
        if not faults.failed:
            break
    assert calls > 10
    assert manifest_problem(job.result) is None
