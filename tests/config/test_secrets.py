"""Nothing that could be a secret is shown."""

import json
import traceback

import pytest

from outrider.config import ConfigError
from outrider.config.shape import key_paths
from tests.config.conftest import Load

SECRET = "sk-proj-4f9a8b7c6d5e4f3a2b1c"
NAMES = {"default_model", "primary_provider", "fallback_provider"}  # shown where they lead nowhere
PATHS = [tuple("x" if step == "*" else step for step in path) for path in key_paths() if path[0] not in NAMES]


def nested(path: tuple[str, ...], value: str) -> str:
    settings: object = value
    for key in reversed(path):
        settings = {key: settings}
    return json.dumps(settings)


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_no_value_is_shown(load_text: Load, path: tuple[str, ...]) -> None:
    """Row 28: whatever setting or variable holds a secret, the error and its traceback do not."""
    variable = f"OUTRIDER_{'__'.join(path).upper()}"
    for value in (SECRET, f"{SECRET} é", f"{SECRET}\n", f"[{SECRET}]", f"{SECRET}${{", f"{SECRET}/@"):
        for text, environ in (
            (nested(path, value), {}),
            (nested(path, "${SECRET}"), {"SECRET": value}),
            (nested((*path, "unknown"), value), {}),
            ("- " + nested(path, value), {}),
            ("", {variable: value}),
            ("", {f"{variable}__UNKNOWN": value}),
        ):
            assert SECRET not in error_of(load_text, text, environ)


def error_of(load_text: Load, text: str, environ: dict[str, str]) -> str:
    """All that could be shown of the error that loading ends with; empty where it does not."""
    try:
        load_text(text, environ)
    except ConfigError as error:
        assert error.__context__ is None
        return "".join(traceback.format_exception(error)) + repr(error) + repr(error.problems)
    return ""


def test_no_secret_is_shown_by_a_configuration(load_text: Load) -> None:
    """Row 28: keys, tokens and headers stay out of every text that a configuration is turned into."""
    config = load_text(
        f"""
        callers: {{a: {{token: {SECRET}}}}}
        providers: {{groq: {{api_key: {SECRET}, headers: {{x-key: {SECRET}}}}}}}
        """
    )

    assert SECRET not in f"{config} {config!r} {config.callers['a']} {config.providers['groq']}"


def test_equal_tokens_are_not_shown(load_text: Load) -> None:
    """Row 28: two callers with one token are told apart by their names."""
    with pytest.raises(ConfigError) as error:
        load_text(f"callers: {{a: {{token: {SECRET}}}, b: {{token: {SECRET}}}}}")

    assert SECRET not in str(error.value)


def test_what_is_shown_cannot_break_a_line(load_text: Load) -> None:
    """Keys that hold line breaks or terminal sequences are shown escaped."""
    with pytest.raises(ConfigError) as error:
        load_text(r'"a\nfake.yaml:1\u001b[2J": 1')

    assert str(error.value).isprintable()
