"""What answers to a model's name on this platform: which weights, and how much at once."""

import asyncio
from dataclasses import dataclass

from gateway.answering.service_llm import CAPACITY
from gateway.answering.weights import weights_sha256
from gateway.orchestrator.plans import Target
from gateway.services import Services
from gateway.serving import plan_for
from shared.storage import Storage


@dataclass(frozen=True)
class Identity:
    """``sha256`` as `weights_sha256` says; None where the name stands for different weights, for
    somebody else's, or for some that are not there yet: then ``loads``, and the first request
    brings them. ``capacity``: requests that are answered at once."""

    sha256: str | None
    loads: bool
    capacity: int


async def identify(*, services: Services, owner: str, model: str) -> Identity:
    """`NotFound` where nobody answers to this name."""
    targets = (await plan_for(services=services, owner=owner, model=model)).targets
    sha256 = await asyncio.to_thread(_one_sha256, services.storage, targets)
    own = any(target.upstream is None for target in targets)
    return Identity(
        sha256=sha256,
        loads=sha256 is None and len(targets) == 1 and own,
        capacity=await services.inference.capacity() if own else CAPACITY,
    )


def _one_sha256(storage: Storage, targets: tuple[Target, ...]) -> str | None:
    """Of the weights that all targets are, if they are the same."""
    refs = {target.ref for target in targets}
    if len(refs) != 1 or (ref := refs.pop()) is None:
        return None
    return weights_sha256(storage, ref)
