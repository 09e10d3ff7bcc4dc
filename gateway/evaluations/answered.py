"""What was asked and answered, as it is handed to the process that scores it. Loads no library that
computes: the gateway's own process must stay small.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """A model's answer to one example, with what it is measured against.

    ``source`` is the last thing the user said. ``rendered``: whether its diagram was drawn.
    ``log_likelihood`` is that of the first reference under the model, in nats, of so many
    ``likelihood_tokens``. ``similarity`` (1 to 5) and ``preference`` (1 won, 0.5 a tie, 0 lost) are
    a judge's. None where something was not measured.
    """

    source: str
    references: tuple[str, ...]
    text: str
    finish_reason: str = "stop"
    rendered: bool | None = None
    log_likelihood: float | None = None
    likelihood_tokens: int | None = None
    similarity: float | None = None
    preference: float | None = None


@dataclass(frozen=True)
class Asked:
    """An example. ``source`` is the last thing the user says."""

    source: str
    references: tuple[str, ...]
    tag: str | None = None


@dataclass(frozen=True)
class Settings:
    metrics: tuple[str, ...]
    baseline: int = 0
    seed: int = 42
    confidence: float = 0.95
    resamples: int = 1000
