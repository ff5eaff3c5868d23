"""`${NAME}` in the values of the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.interpolate import Interpolation
from tests.config.conftest import Load, Problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "alpha"),
        ("<${A}${A}>", "<alphaalpha>"),
        ("${A:-x}", "alpha"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("$${A}", "${A}"),
        ("$A $$ $", "$A $$ $"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    """A reference becomes the variable's value, which is not looked at again."""
    references = Interpolation({"A": "alpha", "EMPTY": "", "NESTED": "${A}"})

    assert references.apply({"x": [text]}) == {"x": [expected]}
    assert references.findings == []


@given(st.text().filter(lambda text: "${" not in text))
def test_other_texts_are_left_alone(text: str) -> None:
    """Without a reference nothing changes."""
    assert Interpolation({}).apply(text) == text


def test_the_setting_says_what_the_text_means(load_text: Load) -> None:
    """A number can come from a variable."""
    config = load_text(
        "attempts: {max_attempts: '${N:-7}'}\nserver:\n  listen: 127.0.0.1:${PORT}", {"PORT": "80"}
    )

    assert config.attempts.max_attempts == 7
    assert config.server.listen == "127.0.0.1:80"


def test_an_unset_variable_is_an_error(problems: Problems) -> None:
    """It is named with its line, and no other problem follows from it."""
    assert problems(
        "callers:\n  a:\n    token: ${TOKEN}\nroutes:\n  m:\n    - ${TARGET}\ndefault_model: m"
    ) == [
        "outrider.yaml:3: callers.a.token: the variable TOKEN is not set; set it, or write ${TOKEN:-default}",
        "outrider.yaml:6: routes.m[0]: the variable TARGET is not set; set it, or write ${TARGET:-default}",
    ]


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A", "${A-b}", "${A:-${A}}"])
def test_a_broken_reference_is_an_error(problems: Problems, text: str) -> None:
    """What begins like a reference and is none is not taken for text, in a key neither."""
    assert problems(
        f"providers:\n  openai:\n    api_key: '{text}'\n    default_model: '{text}'", {"A": "a"}
    ) == [
        f"outrider.yaml:{line}: providers.openai.{key}: "
        "write ${NAME} or ${NAME:-default}, and $${ for a literal ${"
        for line, key in ((3, "api_key"), (4, "default_model"))
    ]
