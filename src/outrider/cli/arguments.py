"""The command line: every command and option. Nothing heavy is imported to read it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from outrider import __version__
from outrider.cli.arguments_jobs import JOBS_EXAMPLES, add_jobs
from outrider.cli.arguments_routes import ROUTES_EXAMPLES, add_routes
from outrider.cli.arguments_usage import USAGE_EXAMPLES, add_cache, add_limits, add_usage
from outrider.cli.exit_codes import MEANINGS, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ADDRESS = "127.0.0.1:50051"
_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_LONGEST_TIME = 86_400  # seconds
_MOST_TOKENS = 2**31 - 1


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of examples, and gives options room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command, and its name in `command`. Exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="outrider",
        description="The LLM sidecar: one small gRPC process beside your service that calls LLMs for it.",
        epilog=f"`outrider COMMAND --help` tells more.\n\n{_exit_codes()}",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"outrider {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (summary, epilog, add_options) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        add_options(command)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        parser.exit(ExitCode.USAGE)
    return arguments


def _serve(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)


def _generate(parser: argparse.ArgumentParser) -> None:
    _add_request(parser)
    parser.add_argument(
        "--key", default="", metavar="KEY", help="used again, it gives the same answer and not another one"
    )
    parser.add_argument("--no-stream", action="store_true", help="take the answer in one piece")
    parser.add_argument(
        "--reasoning", action="store_true", help="show reasoning even where standard error is no terminal"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each event, and for an error")
    _add_sidecar(parser, timeout=120)


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help='the question; "-" reads it from standard input'
    )
    parser.add_argument(
        "--model", default="", metavar="NAME", help="route, provider/model or model; see `outrider models`"
    )
    parser.add_argument(
        "--system", default="", metavar="TEXT", help="instructions that stand above the question"
    )
    parser.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="show the model an image; may be repeated",
    )
    parser.add_argument(
        "--schema", type=Path, metavar="FILE", help="ask for JSON that follows this JSON Schema"
    )
    parser.add_argument("--max-tokens", type=_tokens, metavar="N", help="most tokens of the answer")
    parser.add_argument("--temperature", type=float, metavar="T", help="randomness, 0 to 2")


def _check(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document, problems included")
    parser.add_argument("--live", action="store_true", help="also let the running sidecar ask each provider")
    _add_sidecar(parser, timeout=15)


def _health(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--service",
        default="",
        metavar="NAME",
        help="of one service, such as readiness or provider/openai; default: the whole sidecar",
    )
    what.add_argument("--all", action="store_true", help="of everything, as a table")
    parser.add_argument(
        "--wait", type=_seconds, metavar="SECONDS", help="wait until it serves, this long at most"
    )
    _add_sidecar(parser, timeout=3)


def _models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider", default="", metavar="NAME", help="only models that lead to this provider"
    )
    parser.add_argument("--json", action="store_true", help="the ListModelsResponse as JSON")
    _add_sidecar(parser, timeout=5)


def _providers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the ListProvidersResponse as JSON")
    _add_sidecar(parser, timeout=5)


def _routes(parser: argparse.ArgumentParser) -> None:
    def add_common(parser: argparse.ArgumentParser, nested: bool) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS if nested else False,
            help="the sidecar's answer as JSON",
        )
        _add_sidecar(parser, timeout=5, nested=nested)

    add_routes(parser, add_common)


def _jobs(parser: argparse.ArgumentParser) -> None:
    def add_common(parser: argparse.ArgumentParser, nested: bool) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS if nested else False,
            help="the sidecar's answers as JSON",
        )
        _add_sidecar(parser, timeout=30, nested=nested, streaming="watch, follow, --wait and --watch")

    add_jobs(parser, add_common, _add_request)


def _usage(parser: argparse.ArgumentParser) -> None:
    add_usage(parser)
    _add_sidecar(parser, timeout=30, streaming="--export and --watch")


def _limits(parser: argparse.ArgumentParser) -> None:
    add_limits(parser)
    _add_sidecar(parser, timeout=5)


def _cache(parser: argparse.ArgumentParser) -> None:
    add_cache(parser)
    _add_sidecar(parser, timeout=15)


def _events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="TYPE",
        help="only this type, such as request.failed, or those that begin so; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="each event as a line of JSON, as a CloudEvent")
    _add_sidecar(parser, timeout=_LONGEST_TIME)


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="default: OUTRIDER_CONFIG, ./outrider.yaml, /etc/outrider/outrider.yaml, or none",
    )


def _add_sidecar(
    parser: argparse.ArgumentParser, timeout: int, streaming: str = "", *, nested: bool = False
) -> None:
    """`nested`: a parser around this one has the same options, and their defaults."""
    group = parser.add_argument_group("the sidecar")
    defaults: dict[str, object] = {
        "address": os.environ.get("OUTRIDER_ADDRESS") or _ADDRESS,
        "timeout": None if streaming else timeout,
    }
    if nested:
        defaults = dict.fromkeys(("address", "token", "tls_ca", "timeout"), argparse.SUPPRESS)
    group.add_argument(
        "--address",
        type=_address,
        default=defaults["address"],
        metavar="ADDRESS",
        help=f"host:port or unix:///path; default: OUTRIDER_ADDRESS, or {_ADDRESS}",
    )
    group.add_argument(
        "--token",
        default=defaults.get("token"),
        metavar="TOKEN",
        help="who calls; better given as OUTRIDER_TOKEN, which other users cannot see",
    )
    group.add_argument(
        "--tls-ca",
        type=Path,
        default=defaults.get("tls_ca"),
        metavar="FILE",
        help="use TLS, and trust the authorities in this PEM file",
    )
    longer = f"; a day with {streaming}" if streaming else ""
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=defaults["timeout"],
        metavar="SECONDS",
        help=f"default: {timeout}{longer}",
    )


def _address(text: str) -> str:
    if text.startswith("unix:") or _HOST_AND_PORT.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is neither host:port nor unix:///path")


def _seconds(text: str) -> float:
    seconds = float(text)
    if 0 < seconds <= _LONGEST_TIME:
        return seconds
    raise argparse.ArgumentTypeError(f"must be above 0, and {_LONGEST_TIME} at most")


def _tokens(text: str) -> int:
    tokens = int(text)
    if 0 < tokens <= _MOST_TOKENS:
        return tokens
    raise argparse.ArgumentTypeError("must be at least 1")


def _exit_codes() -> str:
    lines = (f"  {code:<5}{meaning}" for code, meaning in MEANINGS.items())
    return "\n".join(("exit codes:", *lines))


_EXAMPLES = """examples:
  outrider generate "Why is the sky blue?"
  git diff | outrider generate "Write a commit message for this change."
  outrider generate --image cat.png --schema cat.json "Describe the cat." | jq .
"""

_COMMANDS: dict[str, tuple[str, str | None, Callable[[argparse.ArgumentParser], None]]] = {
    "serve": ("run the sidecar in the foreground", None, _serve),
    "generate": ("stream an answer to the terminal", f"{_EXAMPLES}\n{_exit_codes()}", _generate),
    "check": ("tell what is wrong with a configuration, without starting", None, _check),
    "health": ("tell whether a sidecar serves: exit code 0 if so, 1 if not", None, _health),
    "models": ("list the models of a running sidecar", None, _models),
    "providers": ("list the providers of a running sidecar and how they fare", None, _providers),
    "routes": (
        "tell where names lead and why, or change it",
        f"{ROUTES_EXAMPLES}\n{_exit_codes()}",
        _routes,
    ),
    "jobs": (
        "leave requests to be answered later, and follow them",
        f"{JOBS_EXAMPLES}\n{_exit_codes()}",
        _jobs,
    ),
    "usage": ("tell what was used and what it cost", f"{USAGE_EXAMPLES}\n{_exit_codes()}", _usage),
    "limits": ("tell what is left of limits and budgets, and when it comes back", None, _limits),
    "cache": ("tell how the cache of answers does, or make it forget", None, _cache),
    "events": ("follow what happens in a running sidecar", None, _events),
    "version": ("tell the versions of what runs here", None, _version),
}
