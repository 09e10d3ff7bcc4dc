"""Which forward passes a process makes of a step's rows, where several processes share them."""

from collections.abc import Sequence
from dataclasses import replace

from trainer_service.batching import PassLimits, cut_to_passes
from trainer_service.data_parallel import Ranks
from trainer_service.packing import common_length
from trainer_service.tokenizing import IGNORED, AnyRow, PairRow, Row


def own_passes(rows: Sequence[AnyRow], ranks: Ranks, limits: PassLimits) -> list[list[AnyRow]]:
    """The rows of each of this process's passes. Those who share a model make equally many: the
    last ones of some learn nothing."""
    costs = [sum(row.size) for row in rows]

    def passes_of(rank: int) -> list[list[AnyRow]]:
        share = [rows[index] for index in replace(ranks, rank=rank).share(costs)]
        cut = cut_to_passes([row.size for row in share], limits)
        return [[share[index] for index in part] for part in cut]

    own = passes_of(ranks.rank)
    if not ranks.sharded:
        return own
    most = max(len(passes_of(rank)) for rank in range(ranks.size))
    return [*own, *([[nothing_to_learn(rows[0])]] * (most - len(own)))]


def shared_tokens(rows: Sequence[AnyRow]) -> int:
    """How many first tokens all ``rows`` have in common, which a causal model reads."""
    return common_length([row.tokens for row in rows if isinstance(row, Row)])


def nothing_to_learn(row: AnyRow) -> AnyRow:
    """The shortest row of ``row``'s kind, of which nothing is learned."""
    if isinstance(row, PairRow):
        return PairRow(row.source[:1], (IGNORED,))
    return Row(row.tokens[:1], (IGNORED,))
