"""Whether an experiment could see what it is to compare, before it is begun."""

from gateway.evaluations.candidates import resolve
from gateway.orchestrator.experiments.spec import Terms
from gateway.services import Services
from shared.errors import Conflict, InvalidData


def check_can_be_seen(services: Services, owner: str, terms: Terms) -> None:
    """`Conflict` where the request log keeps too little, `InvalidData` where it keeps it for too
    short a time, or where nobody answers to the judge's name."""
    settings = services.settings
    if settings.request_log == "none":
        raise Conflict(
            "All figures come from the request log, and it is off (GENPLAT_REQUEST_LOG).",
            code="request_log_off",
        )
    if terms.max_days > settings.request_log_days:
        raise InvalidData(
            f"max_days: at most {settings.request_log_days:g}; after that the request log forgets "
            "what was counted (GENPLAT_REQUEST_LOG_DAYS).",
            param="max_days",
        )
    if terms.judge is None:
        return
    if settings.request_log == "metadata":
        raise Conflict(
            "A judge reads what was said, and the request log keeps no words "
            "(GENPLAT_REQUEST_LOG).",
            code="request_log_without_words",
        )
    resolve(services, owner, terms.judge, param="judge")
