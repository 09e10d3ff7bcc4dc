"""Finds out who answers to a model's name."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.answering.answerer import Answerer
from gateway.answering.engine import own_engine
from gateway.answering.service_llm import service_llm
from gateway.answering.through_platform import through_platform
from gateway.platform import find_platform, platform
from gateway.settings import GatewaySettings
from shared.route_labels import UPSTREAM_PREFIX


@dataclass(frozen=True)
class Place:
    """Where to ask: the GenPlat at ``url`` with ``key`` (both empty: the one that runs on the data
    folder, if one does), or, with ``local``, none. ``command``: what its key is called."""

    settings: GatewaySettings
    url: str = ""
    key: str = ""
    local: bool = False
    command: str = "genplat"

    @property
    def has_platform(self) -> bool:
        return not self.local and bool(find_platform(self.settings, self.url))


@contextlib.asynccontextmanager
async def open_answerer(
    place: Place, model: str, *, say: Callable[[str], None]
) -> AsyncIterator[Answerer]:
    """Who answers as ``model``, for as long as the block.

    ``upstream/NAME`` is a service LLM of GENPLAT_UPSTREAMS_FILE. On a platform all that its chat
    accepts, and run ids. Else, and for a folder that `genplat train --local` wrote, an inference
    service is started: for a library id, a run id of the data folder, or that folder.
    Raises `CommandFailed` and the named errors with what is wrong.
    """
    settings = place.settings
    async with contextlib.AsyncExitStack() as stack:
        if model.startswith(UPSTREAM_PREFIX):
            yield await stack.enter_async_context(service_llm(settings, model))
        elif place.has_platform and not _is_folder(model):
            client = stack.enter_context(
                platform(
                    settings,
                    place.url,
                    place.key,
                    command=place.command,
                    without="answer without one: --local.",
                    scopes=("read", "infer"),
                )
            )
            yield await stack.enter_async_context(through_platform(client, model))
        else:
            yield await stack.enter_async_context(own_engine(settings, model, say=say))


def _is_folder(model: str) -> bool:
    """A library id such as ``owner/name`` is no folder, even where one of that name lies here."""
    return Path(model).is_absolute() and Path(model).is_dir()
