"""The commands that each do what one YAML file says: `genplat train`, `batch`, `evaluate`,
`synthesize` and `pipeline`. Reads arguments and hands over."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli_keys import add_keys, settings_of
from gateway.flat_config import Keys
from shared.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.answering import Place

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_tools(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    for add in (_add_train, _add_batch, _add_evaluate, _add_synthesize, _add_pipeline):
        add(commands, folder)


def _add_train(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    from gateway.train_config import flags

    train = _added(
        commands,
        folder,
        "train",
        _train,
        help="fine-tune what a YAML file says",
        description="Start a fine-tuning on the GenPlat that runs here, or at --url, and follow it "
        "to its end. Exit codes: 0 succeeded, 1 failed, 3 cancelled.",
    )
    _add_file(train, "examples/grammar.yaml", flags(), detach="start the run, and leave")


def _add_batch(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    from gateway.batch_inference.config import flags

    batch = _added(
        commands,
        folder,
        "batch",
        _batch,
        help="have a model answer all rows of a dataset",
        description="Answer the rows of a dataset with a model of the GenPlat that runs here, or "
        "at --url; without one, with a model that is loaded for it. What was killed goes on when "
        "it is started again. Exit codes: 0 all rows are answered, 1 not done, 3 rows failed.",
    )
    batch.add_argument("--from-config", type=Path, metavar="CONFIG", help="the same file")
    _add_file(batch, "examples/batch_inference.yaml", flags())


def _add_evaluate(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    from gateway.evaluations.config import flags

    evaluate = _added(
        commands,
        folder,
        "evaluate",
        _evaluate,
        help="measure models on data, as a YAML file says",
        description="Ask models the rows of a dataset on the GenPlat that runs here, or at --url, "
        "and tell how good their answers are. Exit codes: 0 succeeded, 1 failed, 3 cancelled, "
        "4 a rule of `require` does not hold.",
    )
    keys = {name: ("VALUE", text) for name, text in flags().items()}
    _add_file(evaluate, "examples/evaluate.yaml", keys, detach="start the evaluation, and leave")


def _add_synthesize(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    from gateway.synthesis.config import flags

    synthesize = _added(
        commands,
        folder,
        "synthesize",
        _synthesize,
        help="have a model write rows of data after the example of others",
        description="Have a model of the GenPlat that runs here, or at --url, write rows after the "
        "example of a dataset's; without one, a model that is loaded for it. What was killed goes "
        "on when it is started again. Exit codes: 0 all rows that were wanted, 1 none, 3 fewer.",
    )
    _add_file(synthesize, "examples/synthesize.yaml", flags())


def _add_pipeline(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    pipeline = _added(
        commands,
        folder,
        "pipeline",
        _pipeline,
        help="do the steps of a YAML file one after the other",
        description="Synthesize, train, batch, evaluate, gate, deploy, promote: the steps of a "
        "YAML file, each with what those before it made. What is done already is not done again. "
        "Exit codes: 0 done, 1 or the step's own where a step failed, 4 a gate is closed.",
    )
    pipeline.add_argument("config", type=Path, help="such as examples/pipeline.yaml")
    pipeline.add_argument("--dry-run", action="store_true", help="say what would be done")
    _add_place(pipeline)


def _added(
    commands: "Commands",
    folder: argparse.ArgumentParser,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, parents=[folder], allow_abbrev=False, help=help, description=description
    )
    command.set_defaults(run=run)
    return command


def _add_file(
    command: argparse.ArgumentParser,
    example: str,
    keys: Mapping[str, tuple[str, str]],
    *,
    detach: str = "",
) -> None:
    """The file, where it is done, and a flag for each of the file's ``keys``."""
    said = f"a flat YAML file (see {example}); each of its keys is also a flag"
    command.add_argument("config", nargs="?", type=Path, help=said)
    _add_place(command, detach=detach)
    add_keys(command, keys)


def _add_place(command: argparse.ArgumentParser, *, detach: str = "") -> None:
    command.add_argument("--url", default="", help="the GenPlat to talk to (GENPLAT_URL)")
    command.add_argument("--key", default="", help="an API key of it (GENPLAT_API_KEY)")
    command.add_argument("--json", action="store_true", help="for machines: an object a line")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="right here, without a GenPlat")
    if detach:
        where.add_argument("--detach", action="store_true", help=detach)


def _given(arguments: argparse.Namespace, keys: Keys) -> dict[str, str]:
    """The file's keys that were typed as flags."""
    found = {name: getattr(arguments, name) for name in keys.known}
    return {name: value for name, value in found.items() if value is not None}


def _place(arguments: argparse.Namespace, *, local: bool = False) -> "Place":
    from gateway.answering import Place

    return Place(
        settings_of(arguments),
        url=arguments.url,
        key=arguments.key,
        local=local or arguments.local,
        command=f"genplat {arguments.command}",
    )


def _train(arguments: argparse.Namespace) -> int:
    from gateway import train_command
    from gateway.train_config import TRAIN, read_config

    content = read_config(arguments.config, _given(arguments, TRAIN))
    settings = settings_of(arguments)
    if arguments.local:
        return train_command.train_here(content, settings=settings, as_json=arguments.json)
    return train_command.train(
        content,
        settings=settings,
        url=arguments.url,
        key=arguments.key,
        detach=arguments.detach,
        report=train_command.Report(sys.stdout, as_json=arguments.json),
    )


def _batch(arguments: argparse.Namespace) -> int:
    from gateway import batch_command
    from gateway.batch_inference.config import BATCH, batch_config

    if arguments.config and arguments.from_config:
        raise InvalidRequest("Name the file once: after `genplat batch`, or with --from-config.")
    content = BATCH.read(arguments.config or arguments.from_config, _given(arguments, BATCH))
    report = batch_command.Report(sys.stdout, as_json=arguments.json)
    return batch_command.batch(batch_config(content), place=_place(arguments), report=report)


def _evaluate(arguments: argparse.Namespace) -> int:
    from gateway.evaluations import command
    from gateway.evaluations.config import EVALUATE, read_plan
    from gateway.evaluations.here import evaluate_here

    plan, place = read_plan(arguments.config, _given(arguments, EVALUATE)), _place(arguments)
    report = command.Report(sys.stdout, as_json=arguments.json)
    if arguments.local:
        return evaluate_here(plan, place, report=report)
    return command.evaluate(plan, place, report=report, detach=arguments.detach)


def _synthesize(arguments: argparse.Namespace) -> int:
    from gateway import synthesize_command
    from gateway.synthesis.config import SYNTHESIZE, synthesize_config

    given = _given(arguments, SYNTHESIZE)
    content = SYNTHESIZE.read(arguments.config, given)
    in_file = arguments.config is not None and "leakage" not in given
    config = synthesize_config(content, arguments.config.parent if in_file else Path.cwd())
    report = synthesize_command.Report(sys.stdout, as_json=arguments.json)
    return synthesize_command.synthesize(config, place=_place(arguments), report=report)


def _pipeline(arguments: argparse.Namespace) -> int:
    from gateway.pipeline import command
    from gateway.pipeline.config import read_pipeline

    pipeline = read_pipeline(arguments.config)
    place = _place(arguments, local=pipeline.local)
    report = command.Report(sys.stdout, as_json=arguments.json)
    return command.run_pipeline(pipeline, place=place, report=report, dry=arguments.dry_run)
