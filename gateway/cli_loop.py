"""The commands of the loop: `genplat evaluate`, `synthesize` and `pipeline`. Reads arguments and
hands over."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli_keys import add_keys, settings_of

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_loop_commands(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    _add_evaluate(commands, folder)
    _add_synthesize(commands, folder)
    _add_pipeline(commands, folder)


def _add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", default="", help="the GenPlat to talk to (GENPLAT_URL)")
    command.add_argument("--key", default="", help="an API key of it (GENPLAT_API_KEY)")
    command.add_argument("--local", action="store_true", help="right here, without a GenPlat")
    command.add_argument("--json", action="store_true", help="for machines: an object a line")


def _add_evaluate(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    from gateway.evaluations.config import flags

    evaluate = commands.add_parser(
        "evaluate",
        parents=[folder],
        allow_abbrev=False,
        help="measure models on data, as a YAML file says",
        description="Ask models the rows of a dataset on the GenPlat that runs here, or at --url, "
        "and tell how good their answers are. Exit codes: 0 succeeded, 1 failed, 3 cancelled, "
        "4 a rule of `require` does not hold.",
    )
    evaluate.add_argument(
        "config",
        nargs="?",
        type=Path,
        help="a flat YAML file (see examples/evaluate.yaml); each of its keys is also a flag",
    )
    evaluate.add_argument("--url", default="", help="the GenPlat to talk to (GENPLAT_URL)")
    evaluate.add_argument("--key", default="", help="an API key of it (GENPLAT_API_KEY)")
    evaluate.add_argument("--json", action="store_true", help="for machines: an object a line")
    where = evaluate.add_mutually_exclusive_group()
    where.add_argument("--detach", action="store_true", help="start the evaluation, and leave")
    where.add_argument("--local", action="store_true", help="right here, without a GenPlat")
    add_keys(evaluate, {name: ("VALUE", text) for name, text in flags().items()})
    evaluate.set_defaults(run=_evaluate)


def _add_synthesize(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    from gateway.synthesis.config import flags

    synthesize = commands.add_parser(
        "synthesize",
        parents=[folder],
        allow_abbrev=False,
        help="have a model write rows of data after the example of others",
        description="Have a model of the GenPlat that runs here, or at --url, write rows after the "
        "example of a dataset's; without one, a model that is loaded for it. What was killed goes "
        "on when it is started again. Exit codes: 0 all rows that were wanted, 1 none, 3 fewer.",
    )
    synthesize.add_argument(
        "config", nargs="?", type=Path, help="a flat YAML file, such as examples/synthesize.yaml"
    )
    _add_place(synthesize)
    add_keys(synthesize, flags())
    synthesize.set_defaults(run=_synthesize)


def _add_pipeline(commands: "Commands", folder: argparse.ArgumentParser) -> None:
    pipeline = commands.add_parser(
        "pipeline",
        parents=[folder],
        allow_abbrev=False,
        help="do the steps of a YAML file one after the other",
        description="Synthesize, train, batch, evaluate, gate, deploy, promote: the steps of a "
        "YAML file, each with what those before it made. What is done already is not done again. "
        "Exit codes: 0 done, 1 or the step's own where a step failed, 4 a gate is closed.",
    )
    pipeline.add_argument("config", type=Path, help="such as examples/pipeline.yaml")
    _add_place(pipeline)
    pipeline.add_argument("--dry-run", action="store_true", help="say what would be done")
    pipeline.set_defaults(run=_pipeline)


def _evaluate(arguments: argparse.Namespace) -> int:
    from gateway.answering import Place
    from gateway.evaluations import command
    from gateway.evaluations.config import EVALUATE, read_plan
    from gateway.evaluations.here import evaluate_here

    names = EVALUATE.known
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    plan = read_plan(arguments.config, given)
    place = Place(
        settings_of(arguments),
        url=arguments.url,
        key=arguments.key,
        local=arguments.local,
        command="genplat evaluate",
    )
    report = command.Report(sys.stdout, as_json=arguments.json)
    if arguments.local:
        return evaluate_here(plan, place, report=report)
    return command.evaluate(plan, place, report=report, detach=arguments.detach)


def _synthesize(arguments: argparse.Namespace) -> int:
    from gateway import synthesize_command
    from gateway.answering import Place
    from gateway.synthesis.config import SYNTHESIZE, synthesize_config

    names = SYNTHESIZE.known
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    content = SYNTHESIZE.read(arguments.config, given)
    in_file = arguments.config is not None and "leakage" not in given
    config = synthesize_config(content, arguments.config.parent if in_file else Path.cwd())
    settings = settings_of(arguments)
    place = Place(settings, arguments.url, arguments.key, arguments.local, "genplat synthesize")
    report = synthesize_command.Report(sys.stdout, as_json=arguments.json)
    return synthesize_command.synthesize(config, place=place, report=report)


def _pipeline(arguments: argparse.Namespace) -> int:
    from gateway.answering import Place
    from gateway.pipeline import command
    from gateway.pipeline.config import read_pipeline

    pipeline = read_pipeline(arguments.config)
    local = arguments.local or pipeline.local
    settings = settings_of(arguments)
    place = Place(settings, arguments.url, arguments.key, local, "genplat pipeline")
    report = command.Report(sys.stdout, as_json=arguments.json)
    return command.run_pipeline(pipeline, place=place, report=report, dry=arguments.dry_run)
