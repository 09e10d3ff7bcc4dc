"""Checkpoints as their run's worker reports them, and as their owner sees them."""

import pytest

from gateway.run_views import CheckpointView, list_checkpoints
from gateway.settings import GatewaySettings
from gateway.tables import Deployment
from shared.errors import InvalidRequest, NotFound
from shared.run_events import Advanced, Checkpointed, Finished, Measured, Started
from tests.gateway.by_hand import ByHand, by_hand
from tests.gateway.parts import OWNER, asynchronous, event


def made(step: int, *kept: int, eval_loss: float | None = None, **values: float) -> Checkpointed:
    return Checkpointed(
        step=step, path=f"step-{step}", eval_loss=eval_loss, kept=kept or (step,), **values
    )


def listed(gateway: ByHand, run_id: str) -> list[CheckpointView]:
    database = gateway.services.database
    return list_checkpoints(database=database, owner=OWNER, run_id=run_id).data


def seen(gateway: ByHand, run_id: str) -> list[tuple[int, bool, bool]]:
    return [(view.step, view.available, view.best) for view in listed(gateway, run_id)]


@asynchronous
async def test_checkpoints_come_and_go(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        history = [
            event(run_id, made(2, 2, eval_loss=1.5, loss=2.0), seq=2),
            event(run_id, made(4, 2, 4, eval_loss=1.0, mean_token_accuracy=0.5), seq=3),
            event(run_id, made(6, 4, 6, eval_loss=1.2, eval_mean_token_accuracy=0.7), seq=4),
            event(run_id, made(7, 4, 6, 7), seq=5),
        ]
        await gateway.tell(*history)
        expected = [(7, True, False), (6, True, False), (4, True, True), (2, False, False)]
        assert seen(gateway, run_id) == expected
        view = listed(gateway, run_id)[2]
        assert (view.eval_loss, view.mean_token_accuracy) == (1.0, 0.5)
        assert view.fine_tuned_model_checkpoint.endswith(f"::{run_id[-8:]}:ckpt-step-4")
        before = listed(gateway, run_id)
        # The worker publishes everything once more: Redis was emptied.
        await gateway.tell(*history)
        assert listed(gateway, run_id) == before


@asynchronous
async def test_a_checkpoint_that_was_saved_in_a_hurry_is_evaluated_later(
    settings: GatewaySettings,
) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        measured = {"total_steps": 9, "epoch": 1.0}
        await gateway.tell(
            event(run_id, made(2, 2, eval_loss=1.5), seq=2),
            event(run_id, made(4, 2, 4, loss=2.0), seq=3),
            event(run_id, Finished(status="preempted"), seq=4),
            event(run_id, Started(worker="w"), seq=1, attempt=2),
            event(run_id, Advanced(phase="training", resumed_from_step=4), seq=2, attempt=2),
            event(run_id, Measured(step=3, eval_loss=0.1, **measured), seq=3, attempt=2),
            event(
                run_id,
                Measured(step=4, eval_loss=1.0, eval_mean_token_accuracy=0.5, **measured),
                seq=4,
                attempt=2,
            ),
        )
        assert seen(gateway, run_id) == [(4, True, True), (2, True, False)]
        view = listed(gateway, run_id)[0]
        assert (view.loss, view.eval_loss, view.eval_mean_token_accuracy) == (2.0, 1.0, 0.5)


@asynchronous
async def test_a_resumed_attempt_makes_later_ones_again(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        await gateway.tell(
            event(run_id, made(2, 2, eval_loss=1.5), seq=2),
            event(run_id, made(4, 2, 4, eval_loss=1.0), seq=3),
            event(run_id, made(6, 2, 4, 6, eval_loss=0.5), seq=4),
            event(run_id, Finished(status="preempted"), seq=5),
            event(run_id, Started(worker="w"), seq=1, attempt=2),
        )
        assert seen(gateway, run_id)[0] == (6, True, True)
        await gateway.tell(
            event(run_id, Advanced(phase="training", resumed_from_step=4), seq=2, attempt=2)
        )
        assert seen(gateway, run_id) == [(6, False, False), (4, True, True), (2, True, False)]
        await gateway.tell(
            event(run_id, made(6, 2, 4, 6, eval_loss=0.7), seq=3, attempt=2),
            # A worker of the attempt before.
            event(run_id, made(8, 8, eval_loss=0.1), seq=6, attempt=1),
        )
        assert seen(gateway, run_id) == [(6, True, True), (4, True, False), (2, True, False)]


@asynchronous
async def test_an_older_trainer_says_nothing_of_what_is_kept(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        await gateway.tell(
            event(run_id, Checkpointed(step=2, path="step-2"), seq=2),
            event(run_id, Checkpointed(step=4, path="step-4"), seq=3),
        )
        assert seen(gateway, run_id) == [(4, True, False), (2, True, False)]


@asynchronous
async def test_what_is_deployed_stays_available(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        with gateway.services.database.write() as session:
            session.add(
                Deployment(
                    name="d", owner=OWNER, model="m", base_model="b", run_id=run_id, checkpoint=2
                )
            )
        await gateway.tell(event(run_id, made(2), seq=2), event(run_id, made(4), seq=3))
        assert seen(gateway, run_id) == [(4, True, False), (2, True, False)]


@asynchronous
async def test_they_are_listed_in_pages(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        await gateway.tell(
            *(event(run_id, made(step, *range(2, step + 1)), seq=step) for step in range(2, 7))
        )

        def page(owner: str = OWNER, **query: object) -> tuple[list[int], bool]:
            database = gateway.services.database
            found = list_checkpoints(database=database, owner=owner, run_id=run_id, **query)  # type: ignore[arg-type]
            return [view.step for view in found.data], found.has_more

        assert page(limit=2) == ([6, 5], True)
        assert page(limit=2, after="5") == ([4, 3], True)
        assert page(limit=2, after="3") == ([2], False)
        for wrong in ("1", "x", "²", "9" * 30, ""):
            with pytest.raises(InvalidRequest, match="after names no checkpoint"):
                page(after=wrong)
        for limit in (0, 101):
            with pytest.raises(InvalidRequest, match="limit"):
                page(limit=limit)
        with pytest.raises(NotFound):
            page(owner="somebody-else")


@asynchronous
async def test_metrics_hold_what_was_measured(settings: GatewaySettings) -> None:
    async with by_hand(settings) as gateway:
        run_id = await gateway.running()
        await gateway.tell(
            event(
                run_id,
                Measured(
                    step=1,
                    total_steps=9,
                    epoch=1,
                    loss=1,
                    mean_token_accuracy=0.25,
                    memory_bytes=7_000_000_000,
                ),
                seq=2,
            )
        )
        assert gateway.row(run_id).memory_bytes == 7_000_000_000
