"""What a batch needs of a model family: its running sequences as rows of tensors.

The rows are numbered from 0 without gaps. Who sits where, joins and leaves is the batch's affair.
"""

from collections.abc import Sequence as Many
from typing import NamedTuple, Protocol

from torch import Tensor

from inference_service.engine.sequence import Sequence


class Reading(NamedTuple):
    """How far a prompt was read. ``logits`` ([1, vocabulary]) are those of the first answer token,
    where reading the last of the prompt has brought them; else the next step does."""

    tokens: int
    done: bool
    logits: Tensor | None = None


class Rows(Protocol):
    """Keys and values of the running sequences, and the passes over them."""

    @property
    def bytes_held(self) -> int: ...

    def has_room(self, sequences: Many[Sequence], max_bytes: int) -> bool:
        """Whether all of them, each to its end, fit into so many bytes."""

    def reserve(self, sequences: Many[Sequence], *, max_rows: int, max_bytes: int) -> None:
        """Make room for all of them, each to its end, and keep what the first rows hold.

        Spare room is held only within the limits. Where memory lacks, this raises what torch does
        and all is lost: `release`.
        """

    def release(self) -> None:
        """Give all memory back; every row is gone."""

    def move(self, source: int, target: int, sequence: Sequence) -> None:
        """Copy ``sequence`` from one row over another."""

    def read(self, sequence: Sequence, row: int, budget: int) -> Reading:
        """Read about ``budget`` more tokens of the prompt into ``row``, and into no other."""

    def decode(self, sequences: Many[Sequence]) -> Tensor:
        """One step of the sequences in the first rows: logits [rows, vocabulary]."""
