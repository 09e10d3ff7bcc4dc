"""Where things lie in the data folder, and how they get there whole or not at all."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MANIFEST = "manifest.json"
# What a checkpoint holds beside its weights, for training to go on from there.
RESUME_FILES = frozenset({"optimizer.safetensors", "random.safetensors", "position.json"})
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


class Storage:
    """The layout of one data folder. Every path is made from a checked id, never from user text."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def _under(self, kind: str, name: str) -> Path:
        if not _ID.fullmatch(name):
            raise ValueError(f"{name!r} is not an id")
        return self.root / kind / name

    def dataset(self, dataset_id: str) -> Path:
        """Folder of a dataset: ``source`` (the bytes as uploaded), ``records.jsonl``."""
        return self._under("datasets", dataset_id)

    def dataset_source(self, dataset_id: str) -> Path:
        return self.dataset(dataset_id) / "source"

    def dataset_records(self, dataset_id: str) -> Path:
        return self.dataset(dataset_id) / "records.jsonl"

    def run(self, run_id: str) -> Path:
        """Folder of a run: ``events.jsonl``, ``checkpoints``, ``deployed``, ``result``."""
        return self._under("runs", run_id)

    def run_events(self, run_id: str) -> Path:
        return self.run(run_id) / "events.jsonl"

    def run_checkpoints(self, run_id: str) -> Path:
        """Folder with ``step-N`` (training can go on from there) and ``weights-N``."""
        return self.run(run_id) / "checkpoints"

    def run_weights(self, run_id: str, step: int) -> tuple[Path, Path]:
        """Where the trainer may keep the weights of a step."""
        folder = self.run_checkpoints(run_id)
        return folder / f"step-{int(step)}", folder / f"weights-{int(step)}"

    def run_deployed(self, run_id: str, step: int) -> Path:
        """A checkpoint's weights as the gateway put them aside for serving: the trainer drops its
        own checkpoints as new ones come."""
        return self.run(run_id) / "deployed" / f"step-{int(step)}"

    def run_result(self, run_id: str) -> Path:
        """The finished weights with prompt_template.json and a manifest: an adapter
        (``adapter_config.json``), or after method full a whole model (``config.json``)."""
        return self.run(run_id) / "result"

    def base_model(self, model_id: str) -> Path:
        """Folder of a prepared base model; complete where it holds a manifest."""
        digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", model_id).strip("-").lower()[:60]
        return self._under("models", f"{slug}-{digest}")

    def base_model_failure(self, model_id: str) -> Path:
        """File with the reason why the last preparation of a base model failed; else absent."""
        return self.base_model(model_id).with_suffix(".error.json")

    def preflight(self, digest: str) -> Path:
        """File with the report of a pre-flight check, by the digest of what was asked."""
        return self._under("preflights", digest).with_suffix(".json")

    def batch(self, name: str) -> Path:
        """Folder with what a batch from the command line answered."""
        return self._under("batches", name)

    def diagram(self, diagram_id: str, suffix: str) -> Path:
        """File of a diagram; ``suffix`` is ``puml``, ``svg`` or ``png``."""
        if suffix not in ("puml", "svg", "png"):
            raise ValueError(f"{suffix!r} is not a diagram format")
        return self._under("diagrams", diagram_id).with_suffix(f".{suffix}")

    def temporary(self) -> Path:
        """Folder for what is being written; on the same file system, so that a rename is atomic."""
        folder = self.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def sync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears at ``path`` complete when the block ends, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(name, path)
        sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A folder that appears at ``path`` with its manifest when the block ends, or not at all.

    An existing folder at ``path`` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp"))
    try:
        yield folder
        write_manifest(folder)
        sync_directory(folder)
        _put(folder, path)
        sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _put(folder: Path, path: Path) -> None:
    """Rename ``folder`` to ``path``. What is there comes back where that fails."""
    aside = set_aside(path)
    try:
        os.rename(folder, path)
    except OSError:
        if aside is not None:
            os.rename(aside, path)
        raise
    remove(aside)


def set_aside(path: Path) -> Path | None:
    """Rename what is to be removed, at once, to a name that counts as left over: if removing it
    fails or the process dies, a later sweep goes on. None where nothing is there."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def remove(aside: Path | None) -> None:
    """Remove what was set aside; what cannot be removed is left to the sweep."""
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def link_weights(source: Path, target: Path) -> None:
    """Put the weights of the checkpoint in ``source`` into the folder ``target``: hard links where
    the file system has them (nothing is ever written into a checkpoint), else copies."""
    for path in sorted(source.iterdir()):
        if path.name in RESUME_FILES or path.name == MANIFEST:
            continue
        try:
            os.link(path, target / path.name, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(path, target / path.name, follow_symlinks=False)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Record size and sha256 of every file; written last, so that its presence says done."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            files[path.relative_to(folder).as_posix()] = {
                "bytes": path.stat().st_size,
                "sha256": sha256_of(path),
            }
            with path.open("rb") as file:
                os.fsync(file.fileno())
    with atomic_file(folder / MANIFEST) as handle:
        handle.write(json.dumps({"files": files}, indent=2).encode())


def manifest_problem(folder: Path) -> str | None:
    """Why ``folder`` is not what its manifest says, or None where it is.

    Files that the manifest does not name and links are problems too: a loader might read them.
    """
    if (folder / MANIFEST).is_symlink():
        return "unreadable manifest"
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {
            str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()
        }
    except FileNotFoundError:
        return "no manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "unreadable manifest"
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if unknown := found - set(expected) - {MANIFEST}:
        return f"unexpected file {min(unknown)}"
    for name, (size, digest) in expected.items():
        path = folder / name
        if name not in found or path.is_symlink():
            return f"missing file {name}"
        if path.stat().st_size != size or sha256_of(path) != digest:
            return f"changed file {name}"
    return None
