"""What the parts of the command `genplat` share: flags for a file's keys, and settings."""

import argparse
from collections.abc import Mapping

from gateway.flat_config import Keys
from gateway.settings import GatewaySettings


def add_keys(command: argparse.ArgumentParser, flags: Mapping[str, tuple[str, str]]) -> None:
    """A flag for each key of the command's file: what stands for its value, and what it is for."""
    keys = command.add_argument_group("the file's keys")
    for name, (value, text) in flags.items():
        spellings = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        keys.add_argument(*spellings, dest=name, metavar=value, help=text.replace("%", "%%"))


def settings_of(arguments: argparse.Namespace) -> GatewaySettings:
    given = {name: getattr(arguments, name, None) for name in ("data_dir", "host", "port")}
    return GatewaySettings(**{name: value for name, value in given.items() if value is not None})


def keys_of(command: str) -> Keys | None:
    """What a command's file may hold, to say what was probably meant."""
    if command == "train":
        from gateway.train_config import TRAIN

        return TRAIN
    if command == "batch":
        from gateway.batch_inference.config import BATCH

        return BATCH
    if command == "evaluate":
        from gateway.evaluations.config import EVALUATE

        return EVALUATE
    if command == "synthesize":
        from gateway.synthesis.config import SYNTHESIZE

        return SYNTHESIZE
    return None
