"""How well a model draws: what is asked, what is counted."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass

from gateway.bundled_examples import Example
from gateway.client import Client, CommandFailed, Json, error_message
from gateway.evaluations.structure import mean_structure_f1

MAX_TOKENS = 220


@dataclass(frozen=True)
class Score:
    render_rate: float
    structure_f1: float
    examples: int

    def as_json(self) -> Json:
        return asdict(self)


def draw_all(
    client: Client, model: str, examples: Sequence[Example], on_answer: Callable[[int], None]
) -> list[Json]:
    """Every scenario's diagram, asked all at once so that the engine can batch them."""

    def draw(example: Example) -> Json:
        body = {
            "scenario": example.scenario,
            "model": model,
            "max_attempts": 1,
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
        }
        response = client.request("POST", "/api/diagrams", json=body)
        # A diagram that does not render may come with an error's status; it counts all the same.
        answer: Json = response.json()
        if "source" not in answer:
            raise CommandFailed(f"POST /api/diagrams: {error_message(response)}")
        return answer

    with ThreadPoolExecutor(max_workers=len(examples)) as pool:
        futures = [pool.submit(draw, example) for example in examples]
        for count, future in enumerate(as_completed(futures), start=1):
            future.result()
            on_answer(count)
        return [future.result() for future in futures]


def score(examples: Sequence[Example], diagrams: Sequence[Json]) -> Score:
    pairs = [
        (str(diagram["source"]), example.reference)
        for example, diagram in zip(examples, diagrams, strict=True)
    ]
    rendered = sum(bool(diagram["rendered"]) for diagram in diagrams)
    return Score(
        render_rate=round(rendered / len(examples), 4) if examples else 0.0,
        structure_f1=round(mean_structure_f1(pairs), 4),
        examples=len(examples),
    )


def table(base: Score, tuned: Score) -> str:
    rows = [
        ("", "base", "fine-tuned"),
        ("diagrams that render", f"{base.render_rate:.0%}", f"{tuned.render_rate:.0%}"),
        ("structure F1", f"{base.structure_f1:.2f}", f"{tuned.structure_f1:.2f}"),
    ]
    return "\n".join(f"  {name:<22} {left:>8} {right:>12}" for name, left, right in rows)
