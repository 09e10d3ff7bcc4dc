"""The trainer service: fine-tunes base models in child processes, one run at a time."""

import logging
import os

# Read when torch loads its OpenMP: threads that wait shall sleep. By default they spin, and a
# second busy process on the same cores then makes training many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# bitsandbytes warns at import, on some CPUs, that it could not download a faster kernel: no fault.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
