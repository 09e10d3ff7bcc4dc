"""Every GENPLAT_* setting of every service, with its value; secrets are masked.

The other services' settings are asked for in a process of their own: the gateway never imports
them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from gateway.doctor.finding import Finding

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
    """``value`` without what must not be shown: all of a secret, a URL's password."""
    if secret:
        return "***" if value else ""
    parts = urlsplit(value) if "://" in value else None
    if parts is None or "@" not in parts.netloc:
        return value
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
