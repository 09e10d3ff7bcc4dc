"""What a run's evaluations say so far: which step is best, and whether to stop early; no torch."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Standing:
    """Kept with every checkpoint, so that a resumed run decides as one that was never stopped.

    ``stale`` counts the regular evaluations since the one with the ``lowest_loss``: patience is
    given in those, however often checkpoints ask for one between them. ``best_step`` is the
    step of the best weights that were kept, ``best_loss`` their validation loss.
    """

    evaluated_step: int | None = None
    eval_loss: float | None = None
    lowest_loss: float | None = None
    stale: int = 0
    best_step: int | None = None
    best_loss: float | None = None

    def evaluated(self, step: int, eval_loss: float, *, regular: bool = True) -> "Standing":
        lower = self.lowest_loss is None or eval_loss < self.lowest_loss
        return replace(
            self,
            evaluated_step=step,
            eval_loss=eval_loss,
            lowest_loss=eval_loss if lower else self.lowest_loss,
            stale=0 if lower else self.stale + regular,
        )

    def would_be_best(self, step: int) -> bool:
        """Whether weights kept now, at ``step``, are better than all that were kept before."""
        if self.evaluated_step != step or self.eval_loss is None:
            return False
        return self.best_loss is None or self.eval_loss < self.best_loss

    def kept(self, step: int) -> "Standing":
        """After the weights of ``step`` were kept."""
        if not self.would_be_best(step):
            return self
        return replace(self, best_step=step, best_loss=self.eval_loss)

    def without_best(self) -> "Standing":
        """Where the best weights are gone: the next that are kept take their place."""
        return replace(self, best_step=None, best_loss=None)
