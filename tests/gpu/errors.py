"""How far a result of the GPU is from a reference of higher precision."""

from torch import Tensor

# Half of the last of bf16's 8 significant bits is a relative 2**-9; sums of products of such
# numbers stay within a few of these, and a wrong formula does not.
BF16 = 1e-2
FP32 = 1e-5


def relative_error(found: Tensor, reference: Tensor) -> float:
    """The norm of the difference as a share of the reference's; not a number never passes."""
    reference = reference.detach().double().cpu()
    difference = found.detach().double().cpu() - reference
    return float(difference.norm() / reference.norm())
