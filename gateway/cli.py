"""The command `genplat`. Reads arguments and hands over; knows nothing of how things are done."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout may be run by any Python
    sys.stderr.write(
        "genplat: GenPlat needs Python 3.11 or newer; this is Python {}.{}.\n".format(
            *sys.version_info[:2]
        )
    )
    sys.exit(2)

import argparse
import json
from pathlib import Path

from pydantic import ValidationError

from gateway.cli_keys import keys_of, settings_of
from gateway.cli_tools import add_tools
from gateway.launcher.problems import LaunchProblem
from gateway.migrations import UnusableDatabase
from shared.errors import GenPlatError
from shared.settings import wrong_settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="genplat", description="Turn your own data into your own language model."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--data-dir", type=Path, help="folder that holds all data")
    network = argparse.ArgumentParser(add_help=False)
    network.add_argument("--host", help="address to listen on (127.0.0.1)")
    network.add_argument("--port", type=int, help="port to listen on (8000); 0 takes a free one")
    network.add_argument("--no-browser", action="store_true", help="do not open a browser")

    up = commands.add_parser("up", parents=[folder, network], help="start the platform")
    up.set_defaults(run=_up)

    demo = commands.add_parser(
        "demo", parents=[folder, network], help="do the main job once, through the public API"
    )
    demo.add_argument("--exit", action="store_true", help="leave at the end")
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", parents=[folder], help="say what is here and what lacks")
    doctor.add_argument("--json", action="store_true", help="for machines")
    doctor.set_defaults(run=_doctor)

    add_tools(commands, folder)

    keys = commands.add_parser("keys", help="API keys").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    create = keys.add_parser("create", parents=[folder], help="make a key and show it once")
    create.add_argument("--name", required=True, help="to tell keys apart")
    create.add_argument(
        "--scope",
        action="append",
        choices=("read", "infer", "train", "admin"),
        help="what it may do, several times for several; default: admin, which is everything",
    )
    create.add_argument("--days", type=_days, help="after which it ends; default: never")
    for what in ("requests", "tokens"):
        create.add_argument(
            f"--{what}-per-minute", type=_limit, metavar="N", help="default: any number"
        )
    create.add_argument("--json", action="store_true", help="for machines")
    create.set_defaults(run=_create_key)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    from gateway.launcher import up

    up(settings_of(arguments), browser=not arguments.no_browser, console=sys.stdout)
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from gateway.demo import demo

    return demo(settings_of(arguments), browser=not arguments.no_browser, leave=arguments.exit)


def _doctor(arguments: argparse.Namespace) -> int:
    from gateway.doctor import examine, report

    findings = examine(settings_of(arguments))
    sys.stdout.write(report(findings, as_json=arguments.json) + "\n")
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError("a number of days from 1 to 3650")
    return int(text)


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000_000:
        raise argparse.ArgumentTypeError("a number from 1 to a billion")
    return int(text)


def _create_key(arguments: argparse.Namespace) -> int:
    from gateway.local_keys import create_local_key

    key, secret = create_local_key(
        settings_of(arguments),
        arguments.name,
        scopes=arguments.scope or ("admin",),
        days=arguments.days,
        requests_per_minute=arguments.requests_per_minute,
        tokens_per_minute=arguments.tokens_per_minute,
    )
    if arguments.json:
        print(json.dumps({"id": key.id, "name": key.name, "scopes": key.scopes, "key": secret}))  # noqa: T201
    else:
        sys.stderr.write("This key is shown once; only its hash is kept.\n")
        print(secret)  # noqa: T201
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(_unknown(arguments, unknown))
    try:
        code: int = arguments.run(arguments)
    except LaunchProblem as problem:
        return _complain(str(problem), problem.exit_code)
    except UnusableDatabase as error:
        return _complain(str(error), 2)
    except ValidationError as error:
        for line in wrong_settings(error):
            _complain(line, 2)
        return 2
    except GenPlatError as error:
        return _complain(error.message, 1)
    except KeyboardInterrupt:
        return 130
    return code


def _unknown(arguments: argparse.Namespace, unknown: list[str]) -> str:
    name = unknown[0].partition("=")[0]
    if name.startswith("--") and (keys := keys_of(arguments.command)) is not None:
        return keys.unknown(name).message
    return f"unrecognized arguments: {' '.join(unknown)}"


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"genplat: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
