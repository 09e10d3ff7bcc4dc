"""A model in an inference service of our own: a child process on this machine, started for as
long as somebody asks."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from pydantic import SecretStr

from gateway.answering.answerer import Answerer, AnswersEnded, Ask, Body
from gateway.answering.preparing import prepare
from gateway.answering.weights import LocalModel, find_local, manifest_sha256, weights_folder
from gateway.completion_requests import CHAT_PATH
from gateway.inference_client import NOT_LOADED, InferenceClient
from gateway.launcher.checks import (
    SERVICE_MODULES,
    check_modules,
    check_service_settings,
    prepare_data_folder,
)
from gateway.launcher.lock import LOCK_FILE
from gateway.launcher.logs import MergedLog
from gateway.launcher.problems import LaunchProblem
from gateway.launcher.stack import EngineAlone, plan_engine
from gateway.launcher.supervisor import Supervisor
from gateway.settings import GatewaySettings
from shared.errors import GenPlatError, InvalidData, NotFound
from shared.storage import Storage
from shared.tasks import cancel_until_done

_NAME = "answering"
_LOOK_SECONDS = 0.1
# A long answer on a busy machine, where nobody waits at a screen.
_ANSWER_SECONDS = 3600.0

Say = Callable[[str], None]


@contextlib.asynccontextmanager
async def own_engine(settings: GatewaySettings, model: str, *, say: Say) -> AsyncIterator[Answerer]:
    """``model`` as `find_local` knows it. The service dies with this process; where it dies before,
    it is started again. To be used in the main thread: the service's life hangs on its."""
    prepare_data_folder(settings.root, LOCK_FILE)
    check_modules(SERVICE_MODULES)
    check_service_settings(os.environ)
    storage = Storage(settings.root)
    found = find_local(storage, model)
    await prepare(storage, found.ref.base_model, say=say)
    sha256 = manifest_sha256(found.result or weights_folder(storage, found.ref))
    with _data_folder(storage, found) as folder:
        alone = plan_engine(settings, os.environ, folder)
        async with _running(alone, settings.root / "logs" / "answering"):
            client = _client(settings, alone)
            try:
                say(f"Loading {found.name} …")
                await _load(client, found)
                capacity = await client.capacity()
                yield Answerer(
                    found.name,
                    sha256 or "",
                    capacity,
                    _asking(client, found),
                    inference=client,
                    loaded_as=_NAME,
                )
            finally:
                await client.close()


@contextlib.contextmanager
def _data_folder(storage: Storage, model: LocalModel) -> Iterator[Path]:
    """A data folder in which the model lies as a run's result does."""
    if model.result is None or model.result.is_relative_to(storage.root / "runs"):
        yield storage.root
        return
    with tempfile.TemporaryDirectory(prefix="genplat-") as name:
        own = Storage(Path(name))
        result = own.run_result(str(model.ref.run_id))
        result.parent.mkdir(parents=True)
        result.symlink_to(model.result)
        base = own.base_model(model.ref.base_model)
        base.parent.mkdir()
        base.symlink_to(storage.base_model(model.ref.base_model))
        yield own.root


@contextlib.asynccontextmanager
async def _running(alone: EngineAlone, logs: Path) -> AsyncIterator[None]:
    """The service, ready and kept so."""
    log = MergedLog(logs, None)
    supervisor = Supervisor(log)
    try:
        came_up = supervisor.begin([alone.program])
        while not came_up():
            await asyncio.sleep(_LOOK_SECONDS)
        watching = asyncio.create_task(_watch(supervisor))
        try:
            yield
        finally:
            await cancel_until_done([watching])
    finally:
        supervisor.stop()
        log.close()


async def _watch(supervisor: Supervisor) -> None:
    """(No thread of its own: a child dies with the thread that started it.)"""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        supervisor.tick()


def _client(settings: GatewaySettings, alone: EngineAlone) -> InferenceClient:
    return InferenceClient(
        settings.model_copy(
            update={
                "inference_url": alone.url,
                "internal_token": SecretStr(alone.token),
                "inference_timeout_seconds": _ANSWER_SECONDS,
            }
        )
    )


async def _load(client: InferenceClient, model: LocalModel) -> None:
    try:
        await client.load(_NAME, model.ref)
    except GenPlatError as error:
        raise LaunchProblem(
            f"model: {model.name} cannot be loaded: {error.message}", exit_code=1
        ) from error


def _asking(client: InferenceClient, model: LocalModel) -> Ask:
    loading = asyncio.Lock()

    async def ask(body: Body) -> Body:
        named = body | {"model": _NAME}
        try:
            return await client.complete(CHAT_PATH, named, served_as=model.name)
        except NotFound as error:
            if error.code != NOT_LOADED:
                raise
        # The service was started again, and holds nothing.
        async with loading:
            try:
                await client.load(_NAME, model.ref)
            except InvalidData as error:
                raise AnswersEnded(error.message) from error
        return await client.complete(CHAT_PATH, named, served_as=model.name)

    return ask
