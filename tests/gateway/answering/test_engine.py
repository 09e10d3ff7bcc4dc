"""A real inference service as a child, with tiny models."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.answering import Answerer, Place, open_answerer
from gateway.client import CommandFailed
from gateway.launcher.problems import LaunchProblem
from gateway.launcher.processes import descendants
from gateway.settings import GatewaySettings
from shared.prompt_template import PromptTemplate
from shared.storage import MANIFEST, Storage, atomic_directory, sha256_of
from tests.gateway.parts import LONG, asynchronous, until_true
from tests.trainer_service.tiny import TINY_MODEL, prepare_tiny_model, save_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 6,
    "temperature": 0,
}
OUTLIVED = """
import asyncio, sys
from pathlib import Path
from gateway.answering import Place, open_answerer
from gateway.settings import GatewaySettings

async def main():
    place = Place(GatewaySettings(data_dir=Path(sys.argv[1])), local=True)
    async with open_answerer(place, sys.argv[2], say=lambda _: None):
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # No diagrams are drawn here: starting Java takes longer than all the rest.
    monkeypatch.setenv("GENPLAT_JAVA", "/nowhere/java")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GENPLAT_MAX_ROWS", "5")
    prepare_tiny_model(Storage(tmp_path / "data"))
    return tmp_path / "data"


def here(root: Path) -> Place:
    return Place(GatewaySettings(data_dir=root), local=True)


def quiet(_: str) -> None:
    """What is said matters in other tests."""


async def text_of(answerer: Answerer) -> str:
    answer = await answerer.answer(BODY)
    assert answer["model"] == answerer.model_id
    return str(answer["choices"][0]["message"]["content"])


def services() -> list[int]:
    """The inference services that this process has started."""
    found = []
    for process_id, _ in descendants([os.getpid()]):
        command = Path(f"/proc/{process_id}/cmdline")
        if command.exists() and b"inference_service.app" in command.read_bytes():
            found.append(process_id)
    return found


def write_result(folder: Path, *, seed: int) -> None:
    """What a training of method full leaves behind."""
    template = PromptTemplate(base_model=TINY_MODEL, stop_token_ids=(2, 0))
    with atomic_directory(folder) as temporary:
        save_tiny_model(temporary, seed=seed)
        template.save(temporary)


@asynchronous
async def test_a_base_model_answers_also_where_its_service_died_and_ends_with_the_block(
    root: Path,
) -> None:
    async with open_answerer(here(root), TINY_MODEL, say=quiet) as answerer:
        [service] = services()
        first = await text_of(answerer)
        assert first and await text_of(answerer) == first
        assert (answerer.model_id, answerer.capacity) == (TINY_MODEL, 5)
        folder = Storage(root).base_model(TINY_MODEL)
        assert answerer.model_sha == sha256_of(folder / MANIFEST)
        os.kill(service, signal.SIGKILL)
        async with asyncio.timeout(120):
            assert await text_of(answerer) == first
        assert len(services()) == 1 and services() != [service]
    assert services() == []


@asynchronous
async def test_what_was_trained_here_is_asked_by_its_folder_or_its_run(
    root: Path, tmp_path: Path
) -> None:
    write_result(tmp_path / "out" / "result", seed=5)
    write_result(Storage(root).run_result("run_one"), seed=5)
    said = {}
    for name in (TINY_MODEL, "run_one", str(tmp_path / "out")):
        async with open_answerer(here(root), name, say=quiet) as answerer:
            said[answerer.model_id] = (answerer.model_sha, await text_of(answerer))
    assert list(said) == [TINY_MODEL, "run_one", "out"]
    assert said["run_one"] == said["out"] != said[TINY_MODEL]


def test_a_service_does_not_outlive_who_was_killed(root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVED, str(root), TINY_MODEL], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        [service] = services()
        parent.kill()
    until_true(lambda: not Path(f"/proc/{service}").exists() or _is_dead(service), seconds=LONG)


def _is_dead(process_id: int) -> bool:
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("run_nobody", "no result of the run run_nobody"),
        ("run_../x", "no run's id"),
        ("ft:a:genplat::12345678", "running GenPlat alone"),
        ("nobody", "neither in the model library nor a hub id"),
    ],
)
def test_what_cannot_be_loaded_is_said(root: Path, model: str, said: str) -> None:
    async def go() -> None:
        async with open_answerer(here(root), model, say=quiet):
            raise AssertionError("it was opened")

    began = time.monotonic()
    with pytest.raises(CommandFailed, match=said):
        asyncio.run(go())
    assert time.monotonic() - began < LONG and services() == []


def test_a_folder_without_a_result_and_a_result_that_is_damaged(root: Path, tmp_path: Path) -> None:
    async def go(model: Path) -> None:
        async with open_answerer(here(root), str(model), say=quiet):
            raise AssertionError("it was opened")

    with pytest.raises(CommandFailed, match="no finished training"):
        asyncio.run(go(tmp_path))
    write_result(tmp_path / "out" / "result", seed=5)
    with (tmp_path / "out" / "result" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(LaunchProblem, match="changed file"):
        asyncio.run(go(tmp_path / "out"))
    assert services() == []
