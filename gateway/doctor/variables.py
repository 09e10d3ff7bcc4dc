"""Every GENPLAT_* setting of every service, with its value; secrets are masked.

The other services' settings are asked for in a process of their own: the gateway never imports
them.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from gateway.doctor.finding import Finding
from gateway.launcher.checks import check_service_settings
from gateway.launcher.problems import LaunchProblem

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
PACKAGES = ("gateway", "trainer_service", "inference_service")
_LIST = """
import importlib, json, sys
from pydantic import SecretStr
from shared.settings import Settings
listed = []
for package in sys.argv[1:]:
    module = importlib.import_module(package + ".settings")
    for found in vars(module).values():
        if not (isinstance(found, type) and issubclass(found, Settings)):
            continue
        for name, field in found.model_fields.items():
            secret = field.annotation is SecretStr
            computed = field.default_factory is not None
            default = "" if secret or computed or field.default is None else str(field.default)
            listed.append([
                "shared" if name in Settings.model_fields else package,
                "GENPLAT_" + name.upper(),
                default,
                field.description or "",
                secret,
            ])
print(json.dumps(listed))
"""


@dataclass(frozen=True)
class Variable:
    """``reader`` is the package that reads it, or "shared"."""

    reader: str
    name: str
    default: str
    description: str
    secret: bool


def all_variables() -> list[Variable]:
    """Every setting once, those of all services first."""
    answer = subprocess.run(
        [sys.executable, "-c", _LIST, *PACKAGES],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    variables = {row[1]: Variable(*row) for row in json.loads(answer.stdout)}
    return sorted(variables.values(), key=lambda variable: variable.reader != "shared")


def values(environment: Mapping[str, str]) -> Iterator[Finding]:
    """A line for each setting; one that nobody reads is most likely misspelt."""
    try:
        check_service_settings(environment)
    except LaunchProblem as problem:
        yield Finding("Settings", "fail", "some cannot be read", str(problem))
    try:
        variables = all_variables()
    except (OSError, subprocess.SubprocessError, ValueError):
        yield Finding("Settings", "warn", "cannot be listed", "A service's package is missing.")
        return
    for variable in variables:
        given = environment.get(variable.name)
        value = variable.default if given is None else given
        shown = mask(value, secret=variable.secret) or "(empty)"
        yield Finding(variable.name, "ok", shown + ("" if given is None else " (set)"))
    known = {variable.name for variable in variables}
    for name in sorted(environment):
        if name.startswith("GENPLAT_") and name not in known:
            way_out = "No service reads it: a misspelt name?"
            yield Finding(name, "warn", "unknown setting", way_out)


def mask(value: str, *, secret: bool = False) -> str:
    """``value`` without what must not be shown: all of a secret, a URL's passwords. Of a URL that
    cannot be read nothing is shown, for its password may stand anywhere."""
    if secret:
        return "***" if value else ""
    scheme, separator, rest = value.partition("://") if "://" in value else ("", "", value)
    if separator and not _can_be_read(value):
        return "***"
    before, mark, query = rest.partition("?")
    rest = before + mark + "&".join(map(_mask_parameter, query.split("&")))
    if "@" in rest:
        # The last one: a password that should have been quoted may hold others, or a slash.
        rest = "***@" + rest.rpartition("@")[2]
    return scheme + separator + rest


def _can_be_read(url: str) -> bool:
    try:
        _ = urlsplit(url).port  # a piece of a password that was not quoted is no number
    except ValueError:
        return False
    return True


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals and _SECRET_NAME.search(unquote_plus(name)) else parameter
