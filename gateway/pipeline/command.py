"""Does a pipeline step by step. Started again it goes on where it was; a step whose keys, files or
forerunners changed is done again, and all behind it."""

from dataclasses import replace

from gateway.answering import Place
from gateway.client import CommandFailed, Json
from gateway.pipeline.config import BEGINS_ON_PLATFORM, NEEDS_PLATFORM, Made, Pipeline, Step
from gateway.pipeline.state import Done, State, digest, fingerprint, open_state
from gateway.pipeline.steps import Doing, StepFailed, do, written_by
from gateway.progress import Told
from shared.errors import GenPlatError, InvalidRequest

INTERRUPTED = 130


class Report(Told):
    """Its last event is the pipeline."""

    def step(self, step: Step, status: str, **more: object) -> None:
        self.event("step", {"id": step.id, "kind": step.kind, "status": status, **more})


def run_pipeline(pipeline: Pipeline, *, place: Place, report: Report, dry: bool = False) -> int:
    """All steps that are not done; the exit code."""
    if place.local and (lost := [s.id for s in pipeline.steps if s.kind in NEEDS_PLATFORM]):
        raise InvalidRequest(
            f"{', '.join(lost)}: deploying and promoting need a GenPlat. Start one with "
            "`genplat up`, or leave out these steps."
        )
    needing = [step.id for step in pipeline.steps if step.kind in BEGINS_ON_PLATFORM]
    if needing and not dry and not place.local and not place.has_platform:
        raise InvalidRequest(
            f"{', '.join(needing)}: no GenPlat runs on {place.settings.root}. Start one with "
            "`genplat up`, name one with --url or GENPLAT_URL, or do without one: --local."
        )
    with open_state(pipeline) as state:
        if dry:
            return _dry_run(pipeline, state, report)
        try:
            return _all(pipeline, place, state, report)
        except KeyboardInterrupt:
            report.say("Interrupted. Start it again to go on.")
            return INTERRUPTED


def _all(pipeline: Pipeline, place: Place, state: State, report: Report) -> int:
    made, before, total = Made(), "", len(pipeline.steps)
    for number, step in enumerate(pipeline.steps, 1):
        content = made.resolved(step.content)
        before = fingerprint(step, content, pipeline.folder, before)
        done = state.of(step, before)
        head = f"[{number}/{total}] {step.id}"
        if done.finished:
            report.say(f"{head}: done before.")
            report.step(step, "skipped", outputs=done.outputs)
        else:
            report.say(f"{head} …")
            report.step(step, "started")
            # From here on a kill finds the same `once` again: nothing is created twice.
            state.note(step, done)
            doing = _doing(pipeline, place, step, content, done, report)
            if (code := _do(doing, done, state, report)) != 0:
                report.event("pipeline", {"name": pipeline.name, "status": "failed", "at": step.id})
                return code
        made.outputs[step.id] = done.outputs
    report.say(f"{pipeline.name} is done.")
    outputs = {"name": pipeline.name, "status": "succeeded", "outputs": made.outputs}
    report.event("pipeline", outputs)
    return 0


def _doing(
    pipeline: Pipeline, place: Place, step: Step, content: Json, done: Done, report: Report
) -> Doing:
    work = pipeline.output_dir / f"{step.id}-{done.fingerprint[:8]}"
    work.mkdir(parents=True, exist_ok=True)
    return Doing(
        step=step,
        content=content,
        folder=pipeline.folder,
        work=work,
        once=f"{done.fingerprint[:32]}-{done.attempt}",
        place=replace(place, command="genplat pipeline"),
        say=report.say,
        progress=lambda name, data: report.event(name, data | {"step": step.id}),
    )


def _do(doing: Doing, done: Done, state: State, report: Report) -> int:
    """The exit code; 0 where the step is done, which is noted."""
    step = doing.step
    try:
        done.outputs = do(doing)
    except (StepFailed, CommandFailed, GenPlatError) as error:
        if not isinstance(error, StepFailed) or error.ended:
            # The next time is another one.
            done.attempt += 1
        state.note(step, done)
        report.say(f"{step.id} failed: {error}")
        report.step(step, "failed", error=str(error))
        return error.code if isinstance(error, StepFailed) else 1
    files = {str(path): digest(path) for path in written_by(done.outputs)}
    done.files = {name: found for name, found in files.items() if found is not None}
    done.finished = True
    state.note(step, done)
    report.step(step, "done", outputs=done.outputs)
    return 0


def _dry_run(pipeline: Pipeline, state: State, report: Report) -> int:
    """What would be done. Behind the first step that has to be, all are: what they are given is not
    known yet."""
    made, before, going = Made(), "", False
    for number, step in enumerate(pipeline.steps, 1):
        done = None
        if not going:
            content = made.resolved(step.content)
            before = fingerprint(step, content, pipeline.folder, before)
            done = state.of(step, before)
            made.outputs[step.id] = done.outputs
            going = not done.finished
        status = "to do" if going else "done before"
        report.say(f"[{number}/{len(pipeline.steps)}] {step.id} ({step.kind}): {status}")
        report.step(step, "to_do" if going else "skipped")
    return 0
