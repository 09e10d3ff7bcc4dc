"""Has the rows of a batch answered, so many at once, each once. Knows no files but the journal."""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.answering import Answerer
from gateway.batch_inference.config import BatchConfig
from gateway.batch_inference.journal import Entry, Journal
from gateway.batch_inference.rows import Rows
from shared.datasets import Message, Record
from shared.errors import GenPlatError
from shared.tasks import each

OnEntry = Callable[[Entry], None]


async def answer_rows(
    answerer: Answerer, rows: Rows, journal: Journal, config: BatchConfig, on_entry: OnEntry
) -> None:
    """Answer all rows that the journal does not have. ``on_entry`` is told of each.

    `AnswersEnded` where nobody answers any more; what was answered is in the journal."""
    left = _left(rows, journal, retry_failed=config.retry_failed)

    async def do(row: tuple[int, Record]) -> None:
        number, record = row
        entry = {"row": number, **await _answered(answerer, config, record)}
        await journal.add(entry)
        on_entry(entry)

    at_once = answerer.capacity if config.concurrency == "auto" else config.concurrency
    await each(left, do, at_once=at_once)


def _left(rows: Rows, journal: Journal, *, retry_failed: bool) -> Iterator[tuple[int, Record]]:
    for number, record in enumerate(rows.records()):
        if not journal.has(number, retry_failed=retry_failed):
            yield number, record


async def _answered(answerer: Answerer, config: BatchConfig, record: Record) -> Entry:
    body = {"messages": question_of(record, config), **config.parameters()}
    try:
        answer = await answerer.answer(body)
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        return {
            "text": str(choice["message"]["content"] or ""),
            "finish_reason": choice.get("finish_reason"),
            "tokens": int(usage.get("completion_tokens") or 0),
        }
    except GenPlatError as error:
        return {"error": {"code": error.code, "message": error.message}}
    except (KeyError, IndexError, TypeError, ValueError):
        return {"error": {"code": "unreadable", "message": "The answer cannot be read."}}


def question_of(record: Record, config: BatchConfig) -> list[dict[str, Any]]:
    """The messages that are sent: the record without its last answer, with what the file puts
    before them."""
    messages = list(record.prompt)
    if config.system_prompt and not any(message.role == "system" for message in messages):
        messages.insert(0, Message(role="system", content=config.system_prompt))
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    if config.task_prefix and users:
        last = messages[users[-1]]
        messages[users[-1]] = Message(role="user", content=config.task_prefix + last.content)
    return [{"role": message.role, "content": message.content} for message in messages]
