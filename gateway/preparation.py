"""Has base models made ready for loading when something needs them; knows no HTTP."""

import asyncio

from gateway import library
from gateway.library import LibraryItem
from gateway.services import Services
from shared.errors import Unavailable


async def ensure(*, services: Services, owner: str, model_id: str) -> None:
    """Ask for a base model's preparation unless it is under way; raises where it has failed."""
    item: LibraryItem = await asyncio.to_thread(
        library.get_library_item,
        database=services.database,
        storage=services.storage,
        owner=owner,
        model_id=model_id,
    )
    if item.state == "failed":
        raise Unavailable(
            f"{model_id} could not be prepared: {item.error} Ask for it again with "
            f"POST /api/library/{model_id}/prepare.",
            code="model_unavailable",
        )
    if item.state in ("available", "missing"):
        await library.prepare(
            database=services.database,
            storage=services.storage,
            queue=services.queue,
            owner=owner,
            model_id=model_id,
        )


async def settle(*, services: Services) -> None:
    """Note which preparations have ended."""
    await library.settle_preparations(
        database=services.database, storage=services.storage, queue=services.queue
    )
