"""How fast a run is and when it will end; knows no model and no wire."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.run_events import Advanced, Checkpointed, Finished, Logged, Measured, Payload, Sampled
from shared.runs import Hyperparameters

Report = Callable[[Payload], None]
RECENT_STEPS = 10
# An evaluation goes forward alone, where training goes back too.
FORWARD_SHARE = 0.5


@dataclass
class Pace:
    """Real (non-padding) tokens and seconds spent in optimizer steps; what is done between them
    counts apart. ``validation_tokens``: that an evaluation reads."""

    validation_tokens: int = 0
    trained_tokens: int = 0
    train_seconds: float = 0.0
    steps: int = 0
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    other_seconds: float = 0.0
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    def add_step(self, tokens: int, seconds: float) -> None:
        self.trained_tokens += tokens
        self.train_seconds += seconds
        self.steps += 1
        self.recent.append((tokens, seconds))

    def add_evaluation(self, seconds: float) -> None:
        self.evaluation_seconds += seconds
        self.evaluations += 1

    def add_other(self, seconds: float) -> None:
        self.other_seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        """Over the last few steps."""
        seconds = sum(part for _, part in self.recent)
        return sum(tokens for tokens, _ in self.recent) / seconds if seconds else 0.0

    @property
    def overall_tokens_per_second(self) -> float:
        return self.trained_tokens / self.train_seconds if self.train_seconds else 0.0

    def eta_seconds(self, steps_left: int, evaluations_left: int) -> float | None:
        """Checkpoints are taken to cost as much as until now."""
        if not self.recent:
            return None
        step = sum(part for _, part in self.recent) / len(self.recent)
        step += self.other_seconds / max(1, self.steps)
        return steps_left * step + evaluations_left * self._evaluation()

    def _evaluation(self) -> float:
        if self.evaluations:
            return self.evaluation_seconds / self.evaluations
        speed = self.tokens_per_second
        return FORWARD_SHARE * self.validation_tokens / speed if speed else 0.0


def evaluation_is_due(numbers: Hyperparameters, step: int) -> bool:
    """As often as asked for, at the end, and before a checkpoint: each has its validation loss."""
    if step == 0:
        return False
    regular = step % numbers.eval_steps == 0 or step >= numbers.max_steps
    return regular or step % numbers.save_steps == 0


def evaluations_from(numbers: Hyperparameters, step: int) -> int:
    """How many are due at ``step`` (from 1) and later."""

    def multiples(of: int) -> int:
        return numbers.max_steps // of - (step - 1) // of

    both = math.lcm(numbers.eval_steps, numbers.save_steps)
    last = numbers.max_steps
    ends_apart = last % numbers.eval_steps != 0 and last % numbers.save_steps != 0
    return (
        multiples(numbers.eval_steps) + multiples(numbers.save_steps) - multiples(both) + ends_apart
    )


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start


def as_line(payload: Payload) -> str | None:
    """What a person at a terminal reads of a payload; None where it says nothing new."""
    match payload:
        case Measured(eval_loss=None) as now:
            eta = _clock(now.eta_seconds)
            return (
                f"step {now.step}/{now.total_steps}  epoch {now.epoch:.2f}  loss {now.loss:.4f}  "
                f"lr {now.learning_rate:.2e}  {now.tokens_per_second:.0f} tok/s  left {eta}"
            )
        case Measured() as now:
            return f"step {now.step}/{now.total_steps}  validation loss {now.eval_loss:.4f}"
        case Advanced(phase=phase, resumed_from_step=None):
            return phase.replace("_", " ")
        case Advanced(phase=phase, resumed_from_step=step):
            return f"{phase.replace('_', ' ')}, resumed from step {step}"
        case Sampled() as sample:
            return f"sample at step {sample.step}:\n{sample.output}"
        case Checkpointed(step=step, best=best):
            return f"checkpoint at step {step}{', the best yet' if best else ''}"
        case Logged(level=level, message=message):
            return message if level == "info" else f"{level}: {message}"
        case Finished(status="succeeded") as end:
            why = {"early": "stopped early, ", "user": "stopped, "}.get(end.stopped or "", "")
            return (
                f"done: {why}{end.trained_tokens} tokens in {end.train_seconds:.0f} s "
                f"({end.tokens_per_second:.0f} tok/s)"
            )
    return None


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
