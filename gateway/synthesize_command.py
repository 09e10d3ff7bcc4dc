"""`genplat synthesize`: rows that a model writes after the example of others, sifted and written
down. Killed at any moment and started again, it goes on."""

import asyncio
import contextlib
import hashlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Container, Sequence
from pathlib import Path

from gateway.answering import Answerer, AnswersEnded, Place, open_answerer
from gateway.batch_inference.config import BatchConfig
from gateway.batch_inference.rows import open_rows
from gateway.client import CommandFailed, Json
from gateway.launcher.checks import prepare_data_folder
from gateway.launcher.lock import LOCK_FILE
from gateway.line_files import Facts
from gateway.platform import platform
from gateway.progress import Told
from gateway.synthesis.config import SynthesizeConfig
from gateway.synthesis.generating import Aim
from gateway.synthesis.journal import Journal, open_journal
from gateway.synthesis.pairs import Pair, Seeds, seeds_of
from gateway.synthesis.results import Results, reasons_in_words, write_results
from gateway.synthesis.work import Parts, Plan, Row, draws, produce
from shared.chat import DiagramRequest
from shared.errors import InvalidRequest

INTERRUPTED = 130
DONE, NOTHING_KEPT, FEWER = 0, 1, 3
_MAX_AT_ONCE = 16
Renders = Callable[[str], Awaitable[str | None]]


class Report(Told):
    """Its last event is the synthesis."""

    def progress(self, kept: int, dropped: int, wanted: int) -> None:
        self.event("progress", {"kept": kept, "dropped": dropped, "wanted": wanted})
        if not self._as_json:
            self._progress.show(f"  {kept:,} of {wanted:,} rows, {dropped:,} dropped")


class _Telling:
    """A journal that says how far it has come."""

    def __init__(self, journal: Journal, config: SynthesizeConfig, report: Report) -> None:
        self._journal, self._config, self._report = journal, config, report
        self.answers, self.rows = journal.answers, journal.rows
        self.keep_answer = journal.keep_answer

    async def keep_rows(self, rows: Sequence[Row]) -> None:
        await self._journal.keep_rows(rows)
        every = await self._journal.rows()
        kept = sum(row.kept for row in every)
        self._report.progress(kept, len(every) - kept, self._config.count)


def synthesize(config: SynthesizeConfig, *, place: Place, report: Report) -> int:
    """Do all of it, or the rest; the exit code."""
    prepare_data_folder(place.settings.root, LOCK_FILE)
    plan, seeds = _plan(config, place, report)
    with contextlib.ExitStack() as stack:
        try:
            return asyncio.run(_synthesize(config, place, plan, seeds, stack, report))
        except AnswersEnded as error:
            raise CommandFailed(f"{error} What was answered is kept: start it again.") from error
        except KeyboardInterrupt:
            report.say("Interrupted. Start it again to go on.")
            return INTERRUPTED


def _plan(config: SynthesizeConfig, place: Place, report: Report) -> tuple[Plan, Seeds]:
    """What is to be done, and the rows of the seed (or, without one, of the failures)."""
    seeds = _pairs(config, place, config.dataset, "dataset") if config.dataset else Seeds(())
    aims = [Aim(seeds.pairs)]
    guarded: dict[str, Sequence[Pair]] = {}
    for one in config.leakage:
        guarded[_shown(one, guarded)] = _pairs(config, place, one, "leakage").pairs
    if config.failures is not None:
        failures = _pairs(config, place, config.failures, "failures")
        guarded[_shown(config.failures, guarded)] = failures.pairs
        from gateway.synthesis.clusters import cluster

        kinds = cluster(
            [pair.prompt for pair in failures.pairs],
            count=config.clusters if isinstance(config.clusters, int) else "auto",
        )
        aims = [
            Aim(tuple(failures.pairs[n] for n in one.members), one.label, len(one.members))
            for one in kinds
        ]
        for aim in aims:
            report.say(f"Aimed at {len(aim.pairs):,} failures: {aim.label}")
    if not any(aim.pairs for aim in aims):
        raise InvalidRequest("dataset: no row is one question with its answer.", param="dataset")
    if seeds.left_out:
        report.say(f"{seeds.left_out:,} rows of several turns are left out.")
    known = {_shown(config.dataset, {}): seeds.pairs} if config.dataset else {}
    return Plan(config, aims, known, guarded), seeds


def _shown(named: str, others: Container[str]) -> str:
    """A file by its name alone, unless another one has it."""
    short = Path(named).name if Path(named).is_absolute() else named
    return named if short in others else short


def _pairs(config: SynthesizeConfig, place: Place, named: str, key: str) -> Seeds:
    """Read as a batch reads its rows."""
    is_seed = key == "dataset"
    wanted = BatchConfig(
        dataset=named,
        model=config.model,
        text_column=config.text_column if is_seed else None,
        target_column=config.target_column if is_seed else None,
        system_column=config.system_column if is_seed else None,
    )
    with tempfile.TemporaryDirectory(prefix="genplat-synthesize-") as folder:
        return seeds_of(open_rows(wanted, place, Path(folder)).records())


async def _synthesize(
    config: SynthesizeConfig,
    place: Place,
    plan: Plan,
    seeds: Seeds,
    stack: contextlib.ExitStack,
    report: Report,
) -> int:
    results = Results.at(config.output_dir, config.result_name)
    async with contextlib.AsyncExitStack() as open_ones:
        writer = await open_ones.enter_async_context(
            open_answerer(place, config.model, say=report.say)
        )
        judge = await _judge(config, place, writer, open_ones, report)
        facts = _facts(config, plan, writer, judge)
        journal = stack.enter_context(open_journal(results.journal, facts))
        parts = Parts(
            generate=writer.answer,
            judge=judge.answer if judge else None,
            renders=_renders(plan, place, writer, open_ones, report),
            at_once=min(writer.capacity, _MAX_AT_ONCE),
        )
        rows = await produce(plan, parts, _Telling(journal, config, report))
    seed = plan_seed(config, seeds)
    found = write_results(results, rows, seed=seed, system=seeds.system, facts=facts)
    return _told(config, results, found, report)


def plan_seed(config: SynthesizeConfig, seeds: Seeds) -> Sequence[Pair]:
    return seeds.pairs if config.include_seed else ()


async def _judge(
    config: SynthesizeConfig,
    place: Place,
    writer: Answerer,
    open_ones: contextlib.AsyncExitStack,
    report: Report,
) -> Answerer | None:
    if config.judge is None or config.judge == config.model:
        return writer if config.judge else None
    return await open_ones.enter_async_context(open_answerer(place, config.judge, say=report.say))


def _facts(config: SynthesizeConfig, plan: Plan, writer: Answerer, judge: Answerer | None) -> Facts:
    """What the rows depend on: a journal is gone on with for the same only."""
    return config.decisive | {
        "model": writer.model_id,
        "model_sha": writer.model_sha,
        "judge": judge.model_id if judge else None,
        "seed_sha256": _digest([pair for aim in plan.aims for pair in aim.pairs]),
        "known_sha256": _digest([pair for pairs in plan.seeds.values() for pair in pairs]),
        "guarded_sha256": _digest([pair for pairs in plan.guarded.values() for pair in pairs]),
    }


def _digest(pairs: Sequence[Pair]) -> str:
    texts = [[pair.prompt, pair.completion] for pair in pairs]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _renders(
    plan: Plan,
    place: Place,
    writer: Answerer,
    open_ones: contextlib.AsyncExitStack,
    report: Report,
) -> Renders | None:
    """Who draws: the platform, or the inference service of our own."""
    if not draws(plan):
        return None
    if (inference := writer.inference) is not None:

        async def here(source: str) -> str | None:
            drawn = await inference.draw(DiagramRequest(source=source))
            return None if drawn.rendered else drawn.error.message if drawn.error else "?"

        return here
    if not place.has_platform:
        report.say(
            "Nobody draws here: diagrams are kept unseen. Start a GenPlat to have them drawn."
        )
        return None
    client = open_ones.enter_context(
        platform(
            place.settings,
            place.url,
            place.key,
            command=place.command,
            without="work without one: --local.",
            scopes=("read", "infer"),
        )
    )

    async def there(source: str) -> str | None:
        drawn = await asyncio.to_thread(
            client.ask, "POST", "/api/diagrams", json={"source": source}
        )
        return None if drawn["rendered"] else str((drawn["error"] or {}).get("message"))

    return there


def _told(config: SynthesizeConfig, results: Results, found: Json, report: Report) -> int:
    report.say(
        f"{found['kept']:,} of {config.count:,} rows are kept, {found['dropped']:,} dropped:"
    )
    for line in reasons_in_words(found):
        report.say(line)
    report.say(f"Results: {results.jsonl}\n         {results.parquet}\n         {results.report}")
    told = {key: found[key] for key in ("kept", "dropped", "seed_rows", "reasons", "by_aim")}
    files = {
        "jsonl": str(results.jsonl),
        "parquet": str(results.parquet),
        "report": str(results.report),
    }
    report.event("synthesis", told | files)
    if not found["kept"]:
        return NOTHING_KEPT
    return DONE if found["kept"] >= config.count else FEWER
