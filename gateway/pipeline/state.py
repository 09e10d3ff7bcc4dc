"""What of a pipeline is done: a file that outlives any end of its process. Each step has the
fingerprint of all that it depends on; what is done with the same one is not done again."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateway.client import CommandFailed
from gateway.line_files import locked
from gateway.pipeline.config import Content, Pipeline, Step
from shared.storage import MANIFEST, atomic_file, sha256_of

_FILE = "state.json"


@dataclass
class Done:
    """A step as it was last done, or tried (``finished`` False). ``attempt`` counts the times that
    it came to an end that was none. ``files``: what it wrote, with their sha256."""

    fingerprint: str
    finished: bool = False
    attempt: int = 1
    outputs: Content = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


class State:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps: dict[str, Done] = {}
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                self._steps = {name: Done(**one) for name, one in content["steps"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CommandFailed(
                    f"{path} is damaged. Remove it to begin the pipeline anew."
                ) from error

    def of(self, step: Step, fingerprint: str) -> Done:
        """How far the step is; a new beginning where what it depends on has changed."""
        found = self._steps.get(step.id)
        if found is None or found.fingerprint != fingerprint:
            return Done(fingerprint)
        if found.finished and any(digest(Path(name)) != at for name, at in found.files.items()):
            # What it made is gone, or was changed by somebody.
            return Done(fingerprint, attempt=found.attempt + 1)
        return found

    def note(self, step: Step, done: Done) -> None:
        self._steps[step.id] = done
        content = {"steps": {name: asdict(one) for name, one in self._steps.items()}}
        with atomic_file(self._path) as out:
            out.write(json.dumps(content, indent=1).encode() + b"\n")


@contextlib.contextmanager
def open_state(pipeline: Pipeline) -> Iterator[State]:
    """The state, for one process at a time."""
    refusal = f"Another `genplat pipeline` works in {pipeline.output_dir}. Wait for it."
    with locked(pipeline.output_dir / ".lock", refusal):
        yield State(pipeline.output_dir / _FILE)


def fingerprint(step: Step, content: Mapping[str, Any], folder: Path, before: str) -> str:
    """Of what the step is to do, of the files that it reads, and of all steps ``before`` it."""
    files = {
        text: found for text in _values(content) if (found := digest(folder / text)) is not None
    }
    whole = [before, step.kind, step.allow_partial, content, files]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        # (Longer ones are no paths, and no file system would look for them.)
        if value and len(value) < 1000 and "\0" not in value and "\n" not in value:
            yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            # Where a step writes is nothing that it reads.
            if key != "output_dir":
                yield from _values(one)
    elif isinstance(value, list):
        for one in value:
            yield from _values(one)


def digest(path: Path) -> str | None:
    """Of a file, or of a training's folder (its manifest knows all files); None for others."""
    try:
        for manifest in (path / "result" / MANIFEST, path / MANIFEST):
            if manifest.is_file():
                return sha256_of(manifest)
        return sha256_of(path) if path.is_file() else None
    except OSError:
        return None
