"""What the operator declared of service LLMs. Nothing is asked of them: that may cost money."""

import os
from collections.abc import Mapping

from gateway.doctor.finding import Finding
from gateway.orchestrator.upstreams import missing_key, read_upstreams
from gateway.settings import GatewaySettings
from shared.errors import GenPlatError

NAME = "Service LLMs"


def upstreams(settings: GatewaySettings, environment: Mapping[str, str] = os.environ) -> Finding:
    if settings.upstreams_file is None:
        return Finding(NAME, "ok", "none declared (GENPLAT_UPSTREAMS_FILE)")
    try:
        declared = read_upstreams(settings.upstreams_file)
    except GenPlatError as error:
        return Finding(NAME, "fail", "the file cannot be read", error.message)
    problems = [found for one in declared.values() if (found := missing_key(one, environment))]
    names = ", ".join(declared) or "none"
    if problems:
        return Finding(NAME, "warn", f"{names} in {settings.upstreams_file}", " ".join(problems))
    return Finding(NAME, "ok", f"{names} in {settings.upstreams_file}")
