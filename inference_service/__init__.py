"""The inference service: generates text in batches, and renders diagrams."""

import os

# Read when torch loads its OpenMP: threads that wait shall sleep. By default they spin, and a
# second busy process on the same cores, such as a training, then slows down both.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
