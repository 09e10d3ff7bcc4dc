"""Dataset repositories that lie on this machine: in a folder of one's own, or in the cache that
Hugging Face's libraries keep. Nothing outside of them is read, wherever a link leads."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.datasets.hub_layout import MAX_README, Repository

MAX_FILES = 20_000


@dataclass(frozen=True)
class LocalRepository:
    """``files`` are readable paths by their names in the repository; ``revision`` is the commit,
    where it is known."""

    files: dict[str, Path]
    revision: str | None

    @property
    def listing(self) -> Repository:
        readme = self.files.get("README.md")
        if readme is None:
            return Repository(list(self.files))
        with readme.open(encoding="utf-8", errors="replace") as file:
            return Repository(list(self.files), file.read(MAX_README))


def in_folder(root: Path, repo: str) -> LocalRepository | None:
    """``<root>/<owner>/<name>``, if it is there."""
    folder = (root / repo).resolve()
    if not folder.is_relative_to(root.resolve()) or not folder.is_dir():
        return None
    return LocalRepository(_files(folder, within=root.resolve()), None)


def in_cache(cache: Path, repo: str, revision: str | None) -> LocalRepository | None:
    """A snapshot of the hub's cache. A revision is a branch, a tag or a commit."""
    stored = (cache / f"datasets--{repo.replace('/', '--')}").resolve()
    reference = stored / "refs" / (revision or "main")
    commit = revision or ""
    if reference.resolve().is_relative_to(stored) and reference.is_file():
        commit = reference.read_text(encoding="utf-8").strip()
    folder = (stored / "snapshots" / commit).resolve()
    if not commit or folder.parent != stored / "snapshots" or not folder.is_dir():
        return None
    # A snapshot is a folder of links to blobs beside it.
    return LocalRepository(_files(folder, within=stored), commit)


def cache_folder() -> Path:
    """Where Hugging Face's libraries keep what they downloaded, by their own variables."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()


def _files(folder: Path, *, within: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _walk(folder):
        real = path.resolve()
        if real.is_relative_to(within) and real.is_file():
            found[path.relative_to(folder).as_posix()] = real
        if len(found) >= MAX_FILES:
            break
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            yield Path(place) / name
