"""Names and the models behind them: loads, shares, unloads. Knows no HTTP and no generation."""

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from inference_service.engine.base_model import BaseModel, choose_precision, load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter, load_adapter
from inference_service.model_files import (
    RunResult,
    base_model_folder,
    library_template,
    run_result,
)
from shared.chaos import stage
from shared.chat import LoadedModel, ModelRef, ModelState
from shared.errors import GenPlatError, NotFound
from shared.prompt_template import PromptTemplate
from shared.storage import Storage

logger = logging.getLogger(__name__)

# The base model, the result that takes its place (else empty), and the number format.
BaseKey = tuple[str, str, str]
DRAIN_POLL_SECONDS = 0.05


@dataclass(eq=False)
class Weights:
    """What a reference stands for once it is in memory. ``tuned``: a run has made it."""

    base: BaseModel
    adapter: Adapter | None = None
    template: PromptTemplate | None = None
    tuned: bool = False


@dataclass(eq=False)
class Served:
    """A name, what it refers to, and how many requests use it now."""

    name: str
    ref: ModelRef
    state: ModelState = "loading"
    weights: Weights | None = None
    error: str | None = None
    leases: int = field(default=0)

    def describe(self) -> LoadedModel:
        return LoadedModel(
            name=self.name,
            ref=self.ref,
            state=self.state,
            precision=self.weights.base.precision if self.weights else "",
            error=self.error,
        )


@dataclass(frozen=True)
class Held:
    """What is in memory; ``bytes``: of the base models' weights."""

    base_models: int
    adapters: int
    bytes: int


class ModelManager:
    """Models by name. Base models are shared by all names that need them; the whole model that a
    run of method full has made is one of them."""

    def __init__(
        self, storage: Storage, engine: Engine, *, memory_bytes: int, unload_grace_seconds: float
    ) -> None:
        self._storage, self._engine = storage, engine
        self._memory_bytes = memory_bytes
        self._grace = unload_grace_seconds
        self._served: dict[str, Served] = {}
        # What has lost its name while requests use it; the last of them takes it from here.
        self._draining: list[Served] = []
        self._bases: OrderedDict[BaseKey, BaseModel] = OrderedDict()
        # Loads in progress by the base model that they need: no `Served` shows it yet.
        self._loading: Counter[BaseKey] = Counter()
        self._locks: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)

    def models(self) -> list[LoadedModel]:
        return [served.describe() for served in self._served.values()]

    def held(self) -> Held:
        bases = list(self._bases.values())
        weights = [served.weights for served in (*self._served.values(), *self._draining)]
        adapters = {id(one.adapter) for one in weights if one and one.adapter}
        return Held(len(bases), len(adapters), sum(map(_bytes_of, bases)))

    async def put(self, name: str, ref: ModelRef) -> LoadedModel:
        """Load ``ref`` under ``name`` and wait for it; at once where that is already so."""
        async with self._locks["name", name]:
            current = self._served.get(name)
            if current and current.state == "ready" and current.ref == ref:
                return current.describe()
            fresh = Served(name, ref)
            if current is None or current.state != "ready":
                self._served[name] = fresh
            try:
                fresh.weights = await self._load(ref)
            except GenPlatError as error:
                fresh.state, fresh.error = "failed", error.message
                raise
            except BaseException:
                if self._served.get(name) is fresh:
                    del self._served[name]
                raise
            fresh.state = "ready"
            self._served[name] = fresh
            if current:
                self._retire(current)
            return fresh.describe()

    async def delete(self, name: str) -> None:
        """Take the name away at once, then wait for its requests before its memory goes."""
        async with self._locks["name", name]:
            served = self._served.pop(name, None)
            if served is None:
                raise _not_loaded(name)
            self._retire(served)
            try:
                async with asyncio.timeout(self._grace):
                    while served in self._draining:
                        await asyncio.sleep(DRAIN_POLL_SECONDS)
            except TimeoutError:
                # (Its last request may have ended in this very moment.)
                if served in self._draining:
                    logger.warning("%s is unloaded while %d requests use it", name, served.leases)
                    self._release(served)

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator[Weights]:
        """The model behind a name, kept in memory while the block runs."""
        served = self._served.get(name)
        if served is None or served.weights is None or served.state != "ready":
            raise _not_loaded(name)
        self._touch(served.weights.base)
        served.leases += 1
        try:
            yield served.weights
        finally:
            served.leases -= 1
            if not served.leases and served in self._draining:
                self._release(served)

    async def _load(self, ref: ModelRef) -> Weights:
        result = None
        if ref.run_id is not None:
            result = await asyncio.to_thread(run_result, self._storage, ref)
        _, dtype = choose_precision(ref.precision)
        instead = result.name if result and result.whole else ""
        key = (ref.base_model, instead, str(dtype))
        self._loading[key] += 1
        try:
            async with self._locks[key]:
                base = self._bases.get(key)
                if base is None:
                    base = await asyncio.to_thread(self._read_base, ref, result)
                    self._bases[key] = base
                    self._evict()
            return await asyncio.to_thread(_lay_over, base, result)
        finally:
            self._loading[key] -= 1

    def _read_base(self, ref: ModelRef, result: RunResult | None) -> BaseModel:
        stage("model_loads")
        if result and result.whole:
            return load_base_model(result.folder, result.name, ref.precision)
        folder = base_model_folder(self._storage, ref.base_model)
        return load_base_model(folder, ref.base_model, ref.precision)

    def _touch(self, base: BaseModel) -> None:
        for key, held in self._bases.items():
            if held is base:
                self._bases.move_to_end(key)
                return

    def _evict(self) -> None:
        """Drop the least recently used base models that nobody uses until the rest fits."""
        for key, base in list(self._bases.items()):
            if sum(_bytes_of(held) for held in self._bases.values()) <= self._memory_bytes:
                return
            users = [
                served
                for served in (*self._served.values(), *self._draining)
                if served.weights and served.weights.base is base
            ]
            if self._loading[key] or any(served.leases for served in users):
                continue
            logger.info("unloading %s: the memory for base models is used up", base.id)
            # (None of them drains: who does has leases.)
            for served in users:
                del self._served[served.name]
            del self._bases[key]
            self._engine.forget(base)

    def _retire(self, served: Served) -> None:
        """Let go of what has lost its name, as soon as no request uses it."""
        self._draining.append(served)
        if not served.leases:
            self._release(served)

    def _release(self, served: Served) -> None:
        self._draining.remove(served)
        if served.weights and served.weights.adapter:
            self._engine.forget(served.weights.adapter)


def _lay_over(base: BaseModel, result: RunResult | None) -> Weights:
    """A model as its requests see it: the base model with what a run has made over it."""
    if result is None:
        return Weights(base, template=library_template(base))
    adapter = None if result.whole else load_adapter(result.folder, base.projections)
    return Weights(base, adapter, result.template, tuned=True)


def _bytes_of(base: BaseModel) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in base.model.parameters())


def _not_loaded(name: str) -> NotFound:
    return NotFound(
        f"No model is loaded under the name {name!r}.", code="model_not_loaded", param="model"
    )
