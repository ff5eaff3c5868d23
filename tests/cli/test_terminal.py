"""The command on a terminal, which is a real pseudo-terminal here."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.cli.terminal import harmless, one_line
from tests.cli.answers import COMPLETED, STARTED, answer, reasoning, text
from tests.cli.conftest import COMMAND
from tests.cli.stand_in import PATIENCE, Hold

if TYPE_CHECKING:
    from tests.cli.stand_in import StandIn

DIM, NORMAL = "\x1b[2m", "\x1b[22m"


class Terminal:
    """A command on a terminal of its own: what it shows can be read, and keys can be pressed."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._screen, keyboard = pty.openpty()
        # A shell without a terminal gets the first one it opens as its own, Ctrl-C included.
        script = 'exec "$0" "$@" <"$TTY" >"$TTY" 2>&1'
        self._process = subprocess.Popen(
            ["sh", "-c", script, COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "TTY": os.ttyname(keyboard), **environment},
            start_new_session=True,
        )
        self._keyboard = keyboard  # open until the end, so that no output is lost
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)
        os.close(self._screen)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode())

    def read_until(self, text: str) -> None:
        """Read what is shown until this is."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert self._read(deadline - time.monotonic()), f"{text!r} is not in {self.shown!r}"

    def finish(self) -> int:
        """The exit code; everything shown has been read then."""
        code = self._process.wait(PATIENCE)
        while self._read(0):
            pass
        return code

    def _read(self, patience: float) -> bool:
        if not select.select([self._screen], [], [], max(patience, 0))[0]:
            return False
        self.shown += os.read(self._screen, 65536).decode().replace("\r\n", "\n")
        return True


def test_tokens_are_seen_as_they_come(stand_in: StandIn) -> None:
    """Text is on the screen before the answer is whole."""
    stand_in.script = [STARTED, text("Hel"), Hold()]
    with Terminal("generate", "hi") as terminal:
        terminal.read_until("Hel")


def test_answer_and_summary_are_set_apart(stand_in: StandIn) -> None:
    """The answer ends with a line break of its own, and the summary comes after an empty line."""
    stand_in.script = answer("Hello")
    with Terminal("generate", "hi") as terminal:
        assert terminal.finish() == 0
        assert terminal.shown.startswith(f"Hello\n\n{DIM}model    {NORMAL} openai/gpt\n")


def test_reasoning_is_dimmed_and_apart_from_the_answer(stand_in: StandIn) -> None:
    """On a terminal reasoning is shown, less bright, above the text that it leads to."""
    stand_in.script = [
        STARTED,
        reasoning("Hm"),
        text("Hel"),
        text("lo"),
        reasoning("So"),
        text("!"),
        COMPLETED,
    ]
    with Terminal("generate", "hi") as terminal:
        assert terminal.finish() == 0
        assert terminal.shown.startswith(f"{DIM}Hm{NORMAL}\n\nHello\n{DIM}So{NORMAL}\n\n!\n\n")


def test_answer_cannot_command_the_terminal(stand_in: StandIn) -> None:
    """Control characters of text, reasoning, tool calls and summary are made visible instead of obeyed."""
    evil = "a\x1b]0;title\x07b\x9b2Jc\rd\x00\te\x7f"
    started = v1.Started(provider="evil\x1b[2J", model=evil)
    call = v1.ToolCallDelta(part=3, id="1", name=evil, arguments_json=evil)
    stand_in.script = [
        v1.GenerateResponse(started=started),
        reasoning(evil),
        text(evil),
        v1.GenerateResponse(tool_call_delta=call),
        COMPLETED,
    ]
    with Terminal("generate", "hi", NO_COLOR="1") as terminal:
        assert terminal.finish() == 0
        assert "a\ufffd]0;title\ufffdb\ufffd2Jcd\ufffd\te\ufffd" in terminal.shown
        assert not set("\x1b\x07\x9b\x00\x7f\r") & set(terminal.shown)


def test_ctrl_c_ends_the_answer(stand_in: StandIn) -> None:
    """Row 1: the key cancels the call at the sidecar, and the cursor is left at the start of a line."""
    stand_in.script = [STARTED, text("Hel"), Hold()]
    with Terminal("generate", "hi") as terminal:
        terminal.read_until("Hel")
        terminal.press("\x03")
        assert terminal.finish() == 130
        assert terminal.shown == "Hel^C\n\routrider: interrupted\n"
    assert stand_in.left.wait(PATIENCE)


def test_prompt_can_be_typed(stand_in: StandIn) -> None:
    """With "-" the prompt is what is typed until Ctrl-D."""
    stand_in.script = answer("Hello")
    with Terminal("generate", "-") as terminal:
        terminal.press("typed\n\x04")
        assert terminal.finish() == 0
    assert stand_in.requests[0].messages[0].parts[0].text == "typed\n"


def test_missing_prompt_is_not_waited_for(stand_in: StandIn) -> None:
    """Without prompt and pipe the command says what to do instead of waiting in silence."""
    with Terminal("generate") as terminal:
        assert terminal.finish() == 2
        assert "there is no prompt" in terminal.shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_turned_off(stand_in: StandIn, environment: dict[str, str]) -> None:
    """No escape sequence is written where the environment forbids them."""
    stand_in.script = [STARTED, reasoning("Hm"), text("Hello"), COMPLETED]
    stand_in.models = [v1.Model(name="fast", targets=["openai/gpt"])]
    for command in (["generate", "hi"], ["models"]):
        with Terminal(*command, **environment) as terminal:
            assert terminal.finish() == 0
            assert "\x1b" not in terminal.shown


def test_table_shows_markup_as_it_is(stand_in: StandIn) -> None:
    """What a sidecar sends cannot colour, link or command the terminal through a table."""
    stand_in.models = [v1.Model(name="[bold]fast[/]\x1b[2J", targets=["[link=x]y[/link]"])]
    with Terminal("models") as terminal:
        assert terminal.finish() == 0
        assert "[bold]fast[/]\ufffd[2J" in terminal.shown
        assert "[link=x]y[/link]" in terminal.shown


@given(st.text())
def test_harmless_text_holds_no_control_characters(raw: str) -> None:
    """Only line breaks and tabs are left to control the terminal, and printable text stays as it is."""
    safe = harmless(raw)
    assert not {c for c in safe if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0} - {"\n", "\t"}
    assert harmless(safe) == safe
    printable = "".join(filter(str.isprintable, raw))
    assert harmless(printable) == printable
    assert "\n" not in one_line(raw)
