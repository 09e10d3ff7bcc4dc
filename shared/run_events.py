"""What a run reports, and the one function that turns reports into its state."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.runs import TERMINAL, Phase, RunStatus

# Why a success came before the last step.
Stopped = Literal["early", "user"]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Started(_Payload):
    """A worker took the run. ``device`` is for people: "cpu", "cuda:0 (Tesla T4)"."""

    type: Literal["started"] = "started"
    worker: str
    device: str = ""


class Advanced(_Payload):
    """The run entered a phase; what became known there comes along."""

    type: Literal["state"] = "state"
    phase: Phase
    hyperparameters: dict[str, Any] | None = None
    train_examples: int | None = None
    validation_examples: int | None = None
    resumed_from_step: int | None = None


class Measured(_Payload):
    """One optimizer step, or an evaluation after it (``eval_loss``, ``loss`` None). Accuracies are
    shares of learned tokens that the model would have written itself."""

    type: Literal["metrics"] = "metrics"
    step: int
    total_steps: int
    epoch: float
    loss: float | None = None
    eval_loss: float | None = None
    mean_token_accuracy: float | None = None
    eval_mean_token_accuracy: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = Field(
        None, description="The most that training held until now: of the GPU, or resident on CPUs."
    )


class Logged(_Payload):
    type: Literal["log"] = "log"
    level: Literal["info", "warn", "error"] = "info"
    message: str = Field(max_length=4000)


class Sampled(_Payload):
    """What the model wrote for a validation prompt at a step, beside the target."""

    type: Literal["sample"] = "sample"
    step: int
    prompt: str
    target: str
    output: str


class Checkpointed(_Payload):
    """A checkpoint that can be deployed. ``kept`` are the steps whose checkpoints are there now:
    older ones go as new ones come."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    loss: float | None = None
    eval_loss: float | None = None
    mean_token_accuracy: float | None = None
    eval_mean_token_accuracy: float | None = None
    best: bool = Field(False, description="No evaluated checkpoint has a lower eval_loss.")
    kept: tuple[int, ...] = ()


class Beat(_Payload):
    """The worker lives, and so does its child."""

    type: Literal["heartbeat"] = "heartbeat"


class Finished(_Payload):
    """The attempt ended. ``preempted``: stopped from outside through no fault of the run;
    ``paused``: by its owner, to be resumed. ``stopped`` says of a success why it came before the
    last step: its owner kept what there was, or the validation loss rose (``early``)."""

    type: Literal["finished"] = "finished"
    status: Literal["succeeded", "failed", "cancelled", "preempted", "paused"]
    stopped: Stopped | None = None
    best_step: int | None = Field(
        None, description="The step of the published weights, where load_best_model_at_end chose."
    )
    code: str | None = Field(None, description="Why it failed, for machines: `oom_killed` …")
    message: str | None = Field(None, description="Why it failed, for people.")
    retry: bool = Field(False, description="Failed in a way that another attempt may survive.")
    manifest_sha256: str | None = None
    trained_tokens: int | None = None
    train_seconds: float | None = None
    tokens_per_second: float | None = None
    eval_loss: float | None = None


Payload = Annotated[
    Started | Advanced | Measured | Logged | Sampled | Checkpointed | Beat | Finished,
    Field(discriminator="type"),
]


class RunEvent(BaseModel):
    """A report with its place: unique by ``(run_id, attempt, seq)``, ``seq`` gapless from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    attempt: int = Field(ge=1)
    seq: int = Field(ge=1)
    time: AwareDatetime
    payload: Payload


class RunState(BaseModel):
    """The part of a run that events change. The gateway keeps it in the run's row."""

    model_config = ConfigDict(frozen=True)

    status: RunStatus
    attempt: int
    last_seq: int = 0
    failures: int = 0
    preemptions: int = 0
    phase: Phase | None = None
    device: str | None = None
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = None
    best_step: int | None = None
    stopped: str | None = None
    hyperparameters: dict[str, Any] | None = None
    train_examples: int | None = None
    validation_examples: int | None = None
    trained_tokens: int | None = None
    train_seconds: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    manifest_sha256: str | None = None


MAX_FAILURES = 3
MAX_PREEMPTIONS = 20


def apply_event(state: RunState, event: RunEvent) -> RunState:
    """The state after ``event``. Pure and idempotent: an old attempt's event, one seen before, or
    one that comes after the end changes nothing."""
    if (
        state.status in TERMINAL
        or event.attempt != state.attempt
        or event.seq <= state.last_seq
        or state.status not in ("queued", "running")
    ):
        return state
    update: dict[str, Any] = {"last_seq": event.seq}
    match event.payload:
        case Started(device=device):
            update |= {"status": "running", "device": device or None}
            update |= {"started_at": state.started_at or event.time}
        case Advanced() as advanced:
            update |= {"status": "running", "phase": advanced.phase}
            known = advanced.model_dump(exclude_none=True, exclude={"type", "phase"})
            if (step := known.pop("resumed_from_step", None)) is not None:
                update["step"] = step
            update |= known
        case Measured() as measured:
            update |= measured.model_dump(
                exclude_none=True,
                exclude={
                    "type",
                    "learning_rate",
                    "grad_norm",
                    "mean_token_accuracy",
                    "eval_mean_token_accuracy",
                },
            )
        case Checkpointed() as made:
            update["preemptions"] = 0
            update |= {"best_step": made.step} if made.best else {}
        case Finished() as finished:
            update |= _finish(state, finished, event.time)
    return state.model_copy(update=update)


def _finish(state: RunState, finished: Finished, time: datetime) -> dict[str, Any]:
    if finished.status == "preempted":
        return _preempt(state, time)
    if finished.status == "paused":
        return {"status": "paused", "phase": None, "eta_seconds": None}
    if finished.status == "failed" and finished.retry and state.failures + 1 < MAX_FAILURES:
        return requeue(state) | {"failures": state.failures + 1}
    update = _end(finished.status, time)
    if finished.status == "failed":
        update |= {
            "failures": state.failures + 1,
            "error_code": finished.code or "training_failed",
            "error_message": finished.message or "Training ended without saying why.",
        }
    known = finished.model_dump(
        exclude_none=True, exclude={"type", "status", "code", "message", "retry"}
    )
    return update | known


def _end(status: str, time: datetime) -> dict[str, Any]:
    return {"status": status, "phase": None, "eta_seconds": None, "finished_at": time}


def _preempt(state: RunState, time: datetime) -> dict[str, Any]:
    """Back to the queue, however often, as long as there is a checkpoint now and then. A stop
    before the attempt's first word says nothing of the run, and does not count."""
    count = state.preemptions + (state.phase is not None)
    if count < MAX_PREEMPTIONS:
        return requeue(state) | {"preemptions": count}
    return _end("failed", time) | {
        "preemptions": count,
        "error_code": "preempted_too_often",
        "error_message": (
            f"The run was stopped from outside {count} times and never came to its next "
            "checkpoint. Let the trainer run for longer or raise GENPLAT_STOP_GRACE_SECONDS, then "
            "start the run again."
        ),
    }


def requeue(state: RunState) -> dict[str, Any]:
    """The change that sends a run back to the queue under the next fencing token."""
    return {
        "status": "queued",
        "phase": None,
        "eta_seconds": None,
        "attempt": state.attempt + 1,
        "last_seq": 0,
    }
