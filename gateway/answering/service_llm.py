"""A service LLM that the operator declared, asked from right here."""

import contextlib
from collections.abc import AsyncIterator

from gateway.answering.answerer import Answerer, Body
from gateway.client import CommandFailed
from gateway.completion_requests import CHAT_PATH
from gateway.orchestrator.upstreams import read_upstreams
from gateway.settings import GatewaySettings
from gateway.upstream_client import UpstreamClient
from shared.route_labels import from_label

# Nobody says how much a service takes at once; what is too much is answered with 429.
CAPACITY = 8


@contextlib.asynccontextmanager
async def service_llm(settings: GatewaySettings, label: str) -> AsyncIterator[Answerer]:
    """``label``: ``upstream/NAME``. Its weights are unknown: ``model_sha`` is empty."""
    declared = read_upstreams(settings.upstreams_file)
    name = from_label(label)["upstream"]
    if name not in declared:
        known = ", ".join(sorted(declared)) or "none"
        raise CommandFailed(
            f"model: no upstream {name[:80]!r} is declared in GENPLAT_UPSTREAMS_FILE (found: "
            f"{known})."
        )
    client = UpstreamClient(declared)
    try:
        if (problem := client.problem(declared[name])) is not None:
            raise CommandFailed(problem)
        # Where nobody waits at a screen, an answer may take as long as it takes.
        patient = declared[name].timeout_seconds
        upstream = declared[name].model_copy(update={"timeout_seconds": max(patient, 600)})

        async def ask(body: Body) -> Body:
            return await client.complete(upstream, CHAT_PATH, body)

        yield Answerer(label, "", CAPACITY, ask)
    finally:
        await client.close()
