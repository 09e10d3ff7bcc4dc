"""Several processes that train one model: each learns from its share of every step's rows.

Every process knows the rows of the whole step, so what each has to do follows without asking;
only gradients (summed) and what somebody outside wishes (agreed on) are exchanged, and where the
model is sharded (`trainer_service.sharding`) its weights. The sum over all shares is the gradient
that one process would have made of the step. With one process nothing is exchanged at all.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

# The others wait while the first one evaluates and saves.
PATIENCE = timedelta(days=2)
# Numbers that are summed in one message: more would double what the gradients take.
BUCKET = 25_000_000


@dataclass(frozen=True)
class Ranks:
    """This process's place among ``size``; rank 0 reports and saves. ``sharded``: each holds a
    share of the model, else all of it."""

    rank: int = 0
    size: int = 1
    sharded: bool = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, costs: Sequence[int]) -> list[int]:
        """Which of a step's rows are this process's, by what each costs: dealt out from the
        dearest on, back and forth, so that nobody waits long for the others."""
        order = sorted(range(len(costs)), key=lambda row: costs[row], reverse=True)
        turn = 2 * self.size
        mine = (self.rank, turn - 1 - self.rank)
        return sorted(row for place, row in enumerate(order) if place % turn in mine)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes; who had no rows adds nothing.
        Those of a sharded model are sums already."""
        if self.size == 1 or self.sharded:
            return
        learning = list(parameters)
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        bucket: list[Tensor] = []
        for gradient in [parameter.grad for parameter in learning if parameter.grad is not None]:
            if bucket and sum(map(Tensor.numel, bucket)) + gradient.numel() > BUCKET:
                _sum_together(bucket)
                bucket = []
            bucket.append(gradient)
        if bucket:
            _sum_together(bucket)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process goes before the others; those of a sharded model, which may be as much
        as the host's memory holds once, one after the other."""
        turn, turns = (self.rank, self.size) if self.sharded else (min(self.rank, 1), 2)
        for now in range(turns):
            if now == turn:
                yield
            self.wait()

    def agree(self, wish: int) -> int:
        """The strongest of all processes' wishes: signals reach them at different moments."""
        if self.size == 1:
            return wish
        wishes = torch.tensor([wish], device=_exchange_device())
        distributed.all_reduce(wishes, op=distributed.ReduceOp.MAX)
        return int(wishes.item())


def _sum_together(tensors: Sequence[Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    start = 0
    for tensor in tensors:
        end = start + tensor.numel()
        tensor.copy_(flat[start:end].view_as(tensor))
        start = end


def join(local_device: str) -> Ranks:
    """Meet the other processes that torchrun started; alone where it did not start this one.
    ``local_device`` is torch's name of the device that this process has."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    backend = "nccl" if local_device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def part() -> None:
    """Leave the others once all is done."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _exchange_device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
