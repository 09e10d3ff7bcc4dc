"""One line of what `genplat doctor` says."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """``way_out`` says what to do where the state is not ok."""

    name: str
    state: State
    found: str
    way_out: str = ""
