"""`genplat batch`: what a file and flags ask for, answered row by row and written down.

Killed at any moment and started again, it goes on: nothing is asked twice that was written down,
nothing is missing.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

from gateway.answering import Answerer, AnswersEnded, Place, open_answerer
from gateway.batch_inference.config import BatchConfig, fingerprint
from gateway.batch_inference.hub_push import check_push, push
from gateway.batch_inference.journal import Entry, Journal, open_journal
from gateway.batch_inference.questions import choose_questions
from gateway.batch_inference.results import Results, write_results
from gateway.batch_inference.rows import Rows, open_rows
from gateway.batch_inference.work import answer_rows
from gateway.client import CommandFailed, Json
from gateway.launcher.checks import prepare_data_folder
from gateway.launcher.lock import LOCK_FILE
from gateway.line_files import Facts
from gateway.progress import Progress, batch_line
from shared.errors import InvalidRequest
from shared.storage import Storage
from shared.tasks import cancel_until_done

INTERRUPTED = 130
DONE, SOME_FAILED = 0, 3
_SHOWN_FAILURES = 5
# For machines: at most so often.
_PROGRESS_SECONDS = 1.0
_TOUCH_SECONDS = 60.0
_KEPT = "What was answered is kept: start it again."


class Report:
    """What a batch tells: lines and a bar for people, or (``as_json``) one JSON object a line,
    each with ``event`` and ``data``; the last one is the batch."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._progress = Progress(sys.stderr if as_json else stream)
        self._began = time.monotonic()
        self._told = 0.0
        self._rows = self._tokens = 0

    def say(self, text: str) -> None:
        self._progress.say(text)

    def begin(self, journal: Journal, total: int) -> None:
        """The first rows come from now on; what is done already says nothing of the speed."""
        self._began = time.monotonic()
        if journal.damaged:
            said = "lines of the journal cannot be read; what is missing is asked again."
            self.say(f"{journal.damaged:,} {said}")
        if journal.done:
            self.say(f"{journal.done:,} of {total:,} rows were answered before.")

    def row(self, entry: Entry, journal: Journal, total: int) -> None:
        self._rows += 1
        self._tokens += entry.get("tokens", 0)
        seconds = max(time.monotonic() - self._began, 1e-6)
        state: Json = {
            "done": journal.done,
            "failed": journal.failed,
            "tokens_per_second": self._tokens / seconds,
            "eta_seconds": (total - journal.done) * seconds / self._rows,
        }
        if not self._as_json:
            self._progress.show(batch_line(state.pop("done"), total, **state))
        elif time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            self.event("progress", {"total": total} | state)

    def event(self, name: str, data: Json) -> None:
        if self._as_json:
            self._stream.write(json.dumps({"event": name, "data": data}) + "\n")
            self._stream.flush()


def batch(config: BatchConfig, *, place: Place, report: Report) -> int:
    """Do the whole batch, or the rest of it; the exit code."""
    check_push(config.push_to_hub)
    _check_place(config)
    prepare_data_folder(place.settings.root, LOCK_FILE)
    # (Where a gateway's sweep finds it, if this process is killed.)
    temporary = Storage(place.settings.root).temporary()
    with (
        tempfile.TemporaryDirectory(dir=temporary, prefix="batch-") as folder,
        # (The journal is closed behind the loop, whose threads write into it.)
        contextlib.ExitStack() as stack,
    ):
        try:
            rows = open_rows(config, place, Path(folder), choose=choose_questions)
            return asyncio.run(_batch(config, place, rows, Path(folder), stack, report))
        except AnswersEnded as error:
            raise CommandFailed(f"{error} {_KEPT}") from error
        except OSError as error:
            # (A full disk, mostly.)
            where = f"{error.filename}: " if error.filename else ""
            raise CommandFailed(f"{where}{error.strerror or error}. {_KEPT}") from error
        except KeyboardInterrupt:
            report.say("Interrupted. Start it again to go on.")
            return INTERRUPTED


async def _batch(
    config: BatchConfig,
    place: Place,
    rows: Rows,
    folder: Path,
    stack: contextlib.ExitStack,
    report: Report,
) -> int:
    async with (
        _kept_young(folder),
        open_answerer(place, config.model, say=report.say) as answerer,
    ):
        facts = _facts(config, answerer, rows)
        results = _place_of(config, place, facts)
        journal = stack.enter_context(open_journal(results.jsonl.with_suffix(".journal"), facts))
        report.begin(journal, rows.count)
        await answer_rows(
            answerer,
            rows,
            journal,
            config,
            lambda entry: report.row(entry, journal, rows.count),
        )
    return _finish(config, place, results, rows, journal, facts, report)


@contextlib.asynccontextmanager
async def _kept_young(folder: Path) -> AsyncIterator[None]:
    """A gateway's sweep removes what was left alone for an hour."""

    async def touch() -> None:
        while True:
            os.utime(folder)
            await asyncio.sleep(_TOUCH_SECONDS)

    touching = asyncio.create_task(touch())
    try:
        yield
    finally:
        await cancel_until_done([touching])


def _facts(config: BatchConfig, answerer: Answerer, rows: Rows) -> Facts:
    """What the answers depend on."""
    return config.decisive | {
        "rows": rows.count,
        "records_sha256": rows.sha256,
        "model_id": answerer.model_id,
        "model_sha": answerer.model_sha,
    }


def _check_place(config: BatchConfig) -> None:
    """Raise where nothing could be written, or something would be lost."""
    if config.output_dir is None:
        return
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise InvalidRequest(f"output_dir: {config.output_dir} is no folder.", param="output_dir")
    results, dataset = Results.at(config.output_dir, config.result_name), Path(config.dataset)
    for path in (results.jsonl, results.parquet):
        if dataset.is_absolute() and path.exists() and path.samefile(dataset):
            raise InvalidRequest(
                f"name: the results would be written over the dataset, {path}. Choose another name "
                "or output_dir.",
                param="name",
            )


def _place_of(config: BatchConfig, place: Place, facts: Facts) -> Results:
    if config.output_dir is None:
        return _stored(config, place, facts)
    return Results.at(config.output_dir, config.result_name)


def _stored(config: BatchConfig, place: Place, facts: Facts) -> Results:
    """In the data folder each batch has a folder of its own."""
    name = config.result_name
    folder = Storage(place.settings.root).batch(f"{name}-{fingerprint(facts)[:8]}")
    return Results.at(folder, name)


def _finish(
    config: BatchConfig,
    place: Place,
    results: Results,
    rows: Rows,
    journal: Journal,
    facts: Facts,
    report: Report,
) -> int:
    model_id, model_sha = facts["model_id"], facts["model_sha"]
    write_results(results, rows, journal, model_id=model_id, model_sha=model_sha)
    if (stored := _stored(config, place, facts)) != results:
        results.copy_to(stored)
    told: Json = {
        "rows": rows.count,
        "failed": journal.failed,
        "model_id": model_id,
        "model_sha": model_sha,
        "jsonl": str(results.jsonl),
        "parquet": str(results.parquet),
        "commit_url": None,
    }
    report.say(f"{rows.count - journal.failed:,} of {rows.count:,} rows are answered.")
    _tell_failures(journal, report)
    report.say(f"Results: {results.jsonl}\n         {results.parquet}")
    if config.push_to_hub:
        told["commit_url"] = push(results, repo=config.push_to_hub, private=config.private)
        report.say(f"Pushed: {told['commit_url']}")
    report.event("batch", told)
    return SOME_FAILED if journal.failed else DONE


def _tell_failures(journal: Journal, report: Report) -> None:
    shown = 0
    for entry in journal.entries() if journal.failed else ():
        if "error" in entry and shown < _SHOWN_FAILURES:
            shown += 1
            report.say(f"  Row {entry['row'] + 1:,} failed: {entry['error']['message']}")
    if journal.failed > shown:
        report.say(f"  … and {journal.failed - shown:,} more.")
    if shown:
        report.say("Start it again with --retry-failed true to ask for them again.")
