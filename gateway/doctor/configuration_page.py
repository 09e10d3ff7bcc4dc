"""The tables of docs/configuration.md, from the settings classes.

Run as ``python -m gateway.doctor.configuration_page``.
"""

import sys
from collections.abc import Sequence

from gateway.doctor.variables import Variable, all_variables

_TITLES = {
    "shared": "All services",
    "gateway": "The gateway",
    "trainer_service": "The trainer",
    "inference_service": "The inference service",
}


def as_markdown(variables: Sequence[Variable]) -> str:
    """A table for each reader."""
    parts = []
    for reader, title in _TITLES.items():
        rows = [
            f"| `{variable.name}` | {f'`{variable.default}`' if variable.default else ''} "
            f"| {variable.description} |"
            for variable in variables
            if variable.reader == reader
        ]
        parts += [f"## {title}\n", "| variable | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(as_markdown(all_variables()))
