"""What each of several devices needs of a run that they share; arithmetic, as `shared.memory`.

Without sharding every device holds the whole model and they exchange gradients. Sharded, each holds
a share of weights, gradients and optimizer state, and layers are made whole while they work.
"""

from typing import NamedTuple

from shared.hardware import DeviceKind, Precision
from shared.memory import BYTES, MemoryEstimate, Model, rounded_copies
from shared.model_shapes import parameter_count
from shared.runs import Method, Sharding

# What the trainer does; a test holds it against its own constant.
BUCKET = 25_000_000
# Layers that are whole at one time: the one that works, the next one, and the message it came in.
WHOLE_LAYERS = 3


class Spread(NamedTuple):
    """How a run lies on devices."""

    devices: int = 1
    sharded: bool = False


def may_shard(devices: int, method: Method, sharding: Sharding) -> bool:
    """(Four-bit weights cannot be divided.)"""
    return devices > 1 and method != "qlora" and sharding != "none"


def room(memory_bytes: int, kind: DeviceKind, devices: int) -> int:
    """What each of a run's processes has of a memory: a GPU's is its own, others share one."""
    return memory_bytes if kind == "cuda" else memory_bytes // devices


def per_device(
    alone: MemoryEstimate, model: Model, method: Method, precision: Precision, spread: Spread
) -> MemoryEstimate:
    """What each device needs of a run that takes ``alone`` on one."""
    if spread.devices == 1:
        return alone
    if not spread.sharded:
        message = min(alone.gradients, 4 * BUCKET)
        return alone.model_copy(update={"gradients": alone.gradients + message})
    whole = _whole_at_a_time(model)
    learning = 4 * whole if method == "full" else 0
    # (Layers are gathered in the format of the products: autocast copies none.)
    copies = rounded_copies(model, precision) if method == "full" else 0
    return alone.model_copy(
        update={
            "weights": alone.weights // spread.devices + BYTES[precision] * whole,
            "gradients": alone.gradients // spread.devices + learning,
            "optimizer": alone.optimizer // spread.devices,
            "activations": alone.activations - copies,
        }
    )


def _whole_at_a_time(model: Model) -> int:
    """Values of the weights that are whole at the peak: embeddings and head, and some layers."""
    outside = model.shape.embedding_parameters
    layers = model.shape.num_hidden_layers + (model.shape.num_decoder_layers or 0)
    inside = parameter_count(model.architecture, model.shape) - outside
    return outside + WHOLE_LAYERS * inside // max(WHOLE_LAYERS, layers)
