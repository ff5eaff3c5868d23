"""What the command says about itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from outrider.cli.exit_codes import MEANINGS, ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Run

COMMANDS = [
    "serve",
    "generate",
    "check",
    "health",
    "models",
    "providers",
    "routes",
    "jobs",
    "usage",
    "limits",
    "cache",
    "events",
    "version",
]
DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_help_lists_every_command_and_exit_code(run: Run) -> None:
    """`outrider --help` is enough to find the rest."""
    result = run("--help")
    assert result.code == 0
    assert re.findall(r"^    (\w+)  +\w", result.out, re.MULTILINE) == COMMANDS
    for code, meaning in MEANINGS.items():
        assert f"  {code:<5}{meaning}\n" in result.out
    assert MEANINGS.keys() == set(ExitCode)


@pytest.mark.parametrize("arguments", [[], ["unheard-of"], ["generate", "--unheard-of"]])
def test_wrong_command_lines_end_with_2(run: Run, arguments: list[str]) -> None:
    """Usage is shown on standard error, and nothing on standard output."""
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("usage: outrider")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(run: Run, command: str) -> None:
    """Each option has a word of help, and stands in docs/cli.md."""
    result = run(command, "--help")
    assert result.code == 0
    document = DOCUMENT.read_text()
    assert f"outrider {command}" in document
    for option, explained in re.findall(
        r"^  (?:-h, )?(--[\w-]+)(?: [A-Z]+)?(\s+\S)?", result.out, re.MULTILINE
    ):
        assert explained, option
        assert option == "--help" or f"`{option}" in document, option


def test_exit_codes_are_documented() -> None:
    """The table of docs/cli.md is that of the code."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == MEANINGS
