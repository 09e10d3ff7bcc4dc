"""Counts and times what models are asked, for Prometheus.

Labels are names of routes, deployments, upstreams and models that exist: those that a plan has
found, never what a caller wrote. This is on every request's way, so each name's counters are looked
up once.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.request_log.entries import Entry

OUTCOMES = ("ok", "refused", "failed", "left")
# Names come and go; a process keeps figures of so many, and of all others together.
MOST_NAMES = 200
OTHER = "other"
# Nobody was found for what was asked.
NOBODY = "none"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LEFT, _BUSY = 499, 429


@dataclass(frozen=True, slots=True)
class _OfTarget:
    seconds: Histogram
    first_token: Histogram
    prompt_tokens: Counter
    completion_tokens: Counter


class ModelTelemetry:
    """One gateway's figures of its models."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "genplat_model_requests",
            "Requests for an answer. target: who answered it, or was to.",
            ["route", "target", "outcome"],
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "genplat_model_fallbacks",
            "Targets that did not answer, or broke off, so that the next one was asked.",
            ["route", "reason"],
            registry=self.registry,
        )
        self._takeovers = Counter(
            "genplat_model_takeovers",
            "Streams that broke off and were gone on with by another target.",
            ["target"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "genplat_model_request_seconds",
            "Time to the end of an answer that came whole.",
            ["target"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._first = Histogram(
            "genplat_model_first_token_seconds",
            "Time to the first event of a streamed answer.",
            ["target"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._tokens = Counter(
            "genplat_model_tokens",
            "Tokens of prompts and of completions, as the target says or the stream shows.",
            ["target", "direction"],
            registry=self.registry,
        )
        self._names: set[str] = set()
        self._by_outcome: dict[tuple[str, str, str], Counter] = {}
        self._by_target: dict[str, _OfTarget] = {}

    def ended(self, entry: Entry) -> None:
        """A request that has come to its end. What was made for comparison alone is no request."""
        if entry.origin.shadow_of is not None:
            return
        target = entry.served_by or entry.drawn or NOBODY
        outcome = _outcome(entry.status)
        key = (entry.route or "", target, outcome)
        counter = self._by_outcome.get(key) or self._counter(key)
        counter.inc()
        if entry.served_by is None:
            return
        of_target = self._by_target.get(target) or self._of_target(target)
        if outcome == "ok":
            of_target.seconds.observe(entry.seconds)
        if entry.first_token_seconds is not None:
            of_target.first_token.observe(entry.first_token_seconds)
        if entry.fallback_reason is not None:
            for reason in entry.fallback_reason.split(", "):
                self._fallbacks.labels(self._known(entry.route or ""), self._known(reason)).inc()
        if entry.continued_by is not None:
            self._takeovers.labels(self._known(entry.continued_by)).inc()

    def read(self, entry: Entry, prompt: int | None, completion: int | None) -> None:
        """The tokens of a request, once its answer was read; from the log's thread."""
        target = entry.served_by
        if target is None or entry.tokens_counted:
            return
        entry.tokens_counted = True
        of_target = self._by_target.get(target) or self._of_target(target)
        of_target.prompt_tokens.inc(prompt or 0)
        of_target.completion_tokens.inc(completion or 0)

    def _counter(self, key: tuple[str, str, str]) -> Counter:
        route, target, outcome = key
        found = self._requests.labels(self._known(route), self._known(target), outcome)
        if len(self._by_outcome) < MOST_NAMES * len(OUTCOMES):
            self._by_outcome[key] = found
        return found

    def _of_target(self, target: str) -> _OfTarget:
        name = self._known(target)
        found = _OfTarget(
            self._seconds.labels(name),
            self._first.labels(name),
            self._tokens.labels(name, "prompt"),
            self._tokens.labels(name, "completion"),
        )
        if len(self._by_target) < MOST_NAMES:
            self._by_target[target] = found
        return found

    def _known(self, name: str) -> str:
        if name in self._names or len(self._names) < MOST_NAMES:
            self._names.add(name)
            return name
        return OTHER


def _outcome(status: int) -> str:
    if status < 400:
        return "ok"
    if status == _LEFT:
        return "left"
    return "refused" if status < 500 and status != _BUSY else "failed"
