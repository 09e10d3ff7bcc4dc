"""What a key may do. Pure."""

from collections.abc import Collection
from typing import Literal, get_args

Scope = Literal["read", "infer", "train", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# Beside itself; admin holds all of them.
_HOLDS: dict[str, frozenset[str]] = {
    "train": frozenset({"read"}),
    "admin": frozenset(SCOPES),
}


def may(scopes: Collection[str], needed: Scope) -> bool:
    """Whether a key with these scopes may do what needs that one."""
    return needed in scopes or any(needed in _HOLDS.get(scope, ()) for scope in scopes)
