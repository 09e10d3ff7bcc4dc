"""Looks at records as a whole: what comes twice, what is on both sides, what is empty. No model."""

import hashlib
from collections.abc import Sequence

from shared.datasets import Record
from shared.preflight import DataReport


def look_at(training: Sequence[Record], validation: Sequence[Record]) -> DataReport:
    """``training``: each record once, whatever the weight of its dataset."""
    learned = [_digest(record) for record in training]
    sources = {record.source_key for record in training}
    known = set(learned)
    return DataReport(
        training=len(training),
        validation=len(validation),
        duplicates=len(learned) - len(known),
        overlapping_sources=sum(record.source_key in sources for record in validation),
        overlapping_records=sum(_digest(record) in known for record in validation),
        empty_answers=sum(_has_empty_answer(record) for record in (*training, *validation)),
        empty_sources=sum(_has_empty_source(record) for record in (*training, *validation)),
    )


def _digest(record: Record) -> bytes:
    return hashlib.sha256(f"{record.source_key}\n{record.completion}".encode()).digest()


def _has_empty_answer(record: Record) -> bool:
    return any(message.learned and not message.content.strip() for message in record.messages)


def _has_empty_source(record: Record) -> bool:
    return not any(message.content.strip() for message in record.prompt)
