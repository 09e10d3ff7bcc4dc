"""Looks at the rows of tokens that a model would learn from: their lengths, and what is learned."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from shared.preflight import Bin, Example, LabelReport, LengthReport, Piece
from shared.prompt_template import PromptTemplate
from trainer_service.reading import Limits
from trainer_service.tokenizing import IGNORED, AnyRow, PairRow, Row

BINS = 12
SHOWN_TOKENS = 400
LEFT_OUT = "\n…\n"


def look_at_lengths(rows: Sequence[AnyRow], limits: Limits) -> list[LengthReport]:
    """``rows``: whole, as they are before any limit."""
    pairs = [row for row in rows if isinstance(row, PairRow)]
    if pairs:
        return [
            _lengths("source", [len(row.source) for row in pairs], limits.max_length),
            _lengths("target", [len(row.target) for row in pairs], limits.max_target_length),
        ]
    single = [len(row.tokens) for row in rows if isinstance(row, Row)]
    return [_lengths("row", single, limits.max_length)] if single else []


def _lengths(what: str, lengths: list[int], limit: int) -> LengthReport:
    ordered = sorted(lengths)
    return LengthReport.model_validate(
        {
            "what": what,
            "field": "max_target_length" if what == "target" else "max_length",
            "limit": limit,
            "over": sum(length > limit for length in ordered),
            "fate": "cut" if what == "source" else "left out",
            "median": percentile(ordered, 50),
            "percentile_95": percentile(ordered, 95),
            "longest": ordered[-1],
            "histogram": _bins(ordered),
        }
    )


def percentile(ordered: Sequence[int], share: int) -> int:
    """The smallest value that at least ``share`` per cent of ``ordered`` do not exceed."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def _bins(ordered: Sequence[int]) -> list[Bin]:
    first, width = ordered[0], max(1, -(-(ordered[-1] - ordered[0] + 1) // BINS))
    counts = [0] * BINS
    for length in ordered:
        counts[(length - first) // width] += 1
    bins = [
        Bin(start=first + place * width, end=first + (place + 1) * width, count=count)
        for place, count in enumerate(counts)
    ]
    while not bins[-1].count:
        bins.pop()
    return bins


def look_at_labels(rows: Sequence[AnyRow], template: PromptTemplate) -> LabelReport:
    stops = set(template.stop_token_ids)
    return LabelReport(
        rows=len(rows),
        tokens=sum(sum(row.size) for row in rows),
        learned_tokens=sum(row.supervised for row in rows),
        rows_without_learned=sum(not row.supervised for row in rows),
        rows_without_end=sum(not stops & set(_learned(row)) for row in rows),
    )


def _learned(row: AnyRow) -> Sequence[int]:
    return row.target if isinstance(row, PairRow) else row.labels


def show(tokenizer: PreTrainedTokenizerBase, row: AnyRow) -> Example:
    """The row as text, cut where it turns from what is read to what is learned, or back. Of a
    long stretch its beginning and its end."""
    if isinstance(row, PairRow):
        marked = [(token, False) for token in row.source]
        marked += [(token, True) for token in row.target]
    else:
        marked = [
            (token, label != IGNORED) for token, label in zip(row.tokens, row.labels, strict=True)
        ]
    runs: list[tuple[list[int], bool]] = []
    for token, learned in marked:
        if not runs or runs[-1][1] != learned:
            runs.append(([], learned))
        runs[-1][0].append(token)
    return Example(
        pieces=[Piece(text=_text(tokenizer, tokens), learned=learned) for tokens, learned in runs]
    )


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    if len(tokens) > SHOWN_TOKENS:
        half = SHOWN_TOKENS // 2
        return _text(tokenizer, tokens[:half]) + LEFT_OUT + _text(tokenizer, tokens[-half:])
    decoded = tokenizer.decode(
        tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return str(decoded)
