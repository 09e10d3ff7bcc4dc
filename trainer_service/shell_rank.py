"""One of the processes of a shell user's training that has several devices.

It chooses its GPU before it loads anything that looks at GPUs, as PEFT does while it is imported:
after that a process sees those that it saw then.
"""

import sys

from trainer_service.launching import local_place


def main(arguments: list[str]) -> int:
    place = local_place()
    from trainer_service import finetune

    return finetune.main(arguments, place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
