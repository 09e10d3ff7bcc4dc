"""The trainer service: fine-tunes base models in child processes, one run at a time."""

import logging

# bitsandbytes warns at import, on some CPUs, that it could not download a faster kernel: no fault.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
