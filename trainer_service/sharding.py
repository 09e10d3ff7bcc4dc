"""A model whose weights are divided over the processes that train it (FSDP2); knows no data.

Each process holds a share of every weight, with its gradient and its optimizer state. A layer is
made whole while it works; what stands outside the layers (embeddings, last norm, head) while the
model is in use. Each use exchanges weights: all processes have to use the model equally often.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer_service.data_parallel import Ranks
from trainer_service.hardware import Device


class Whole(nn.Module):
    """A model in use. ``whole(work, ...)`` calls ``work``, which may use the model and weights of
    it that stand outside its layers; those of a sharded model are whole meanwhile."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return work(*arguments, **named)


def mesh_over(ranks: Ranks, device: Device) -> DeviceMesh:
    """All processes, in one line."""
    return init_device_mesh(device.kind, (ranks.size,))


def shard(model: Any, mesh: DeviceMesh, compute: torch.dtype | None) -> Whole:
    """Divide ``model`` over all processes, layer by layer, and bring each share to its device.
    Nothing is exchanged yet.

    ``compute``: the number format that weights are gathered in, where it is another one than
    theirs: autocast would keep a copy of every layer until the way back. Gradients are summed over
    all processes, in fp32.
    """
    # (Of T5's layers, whose shared positions are a view that nobody changes.)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    policy = MixedPrecisionPolicy(
        param_dtype=compute,
        reduce_dtype=None if compute is None else torch.float32,
        cast_forward_inputs=False,
    )
    whole = Whole(model)
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for part in (*layers, whole):
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        if isinstance(part, FSDPModule):
            # A sum, as gloo knows no mean either.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    return whole


def made_whole(tensor: Tensor) -> Tensor:
    """All of a divided tensor, on every process (all of which have to ask); others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Divided tensors whole, in the first process's host memory. All processes have to ask, for
    the same; the others get none. Where nothing is divided, ``tensors`` as they are."""
    if not ranks.sharded:
        return dict(tensors)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = made_whole(tensor.detach())
        if ranks.leads:
            found[name] = whole.cpu()
    return found


@torch.no_grad()
def put(own: Tensor, whole: Tensor) -> None:
    """Copy ``whole`` into ``own``: of a divided tensor, its share."""
    own.copy_(_share_of(whole, own))


def like(own: Tensor, whole: Tensor) -> Tensor:
    """``whole`` as ``own`` lies: on its device and, where that is divided, the same share."""
    share = _share_of(whole.to(own.device), own)
    # (A share is a view, which would keep all of ``whole``.)
    return share.clone() if isinstance(share, DTensor) else share


def _share_of(whole: Tensor, own: Tensor) -> Tensor:
    if not isinstance(own, DTensor):
        return whole
    # Every process has all of it: nothing is sent.
    return distribute_tensor(whole, own.device_mesh, own.placements, src_data_rank=None)
