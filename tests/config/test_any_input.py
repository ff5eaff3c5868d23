"""Whatever is written, loading ends with a configuration or with a ConfigError."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from outrider.config import Config, ConfigError, load
from outrider.config.shape import key_paths

SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
KEYS = sorted(
    {step for path in key_paths() for step in path if step != "*"} | {"groq", "fast", "<<", "", "9"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.sampled_from(
        [*KEYS, "${", "${A}", "${A:-b}", "1s", "5MB", "127.0.0.1:0", "0.0.0.0:1", "groq/x", "*"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=5)
    ),
    max_leaves=20,
)


@st.composite
def likely(draw: st.DrawFn) -> dict[str, object]:
    """Settings under paths that exist, most of them wrong."""
    root: dict[str, object] = {}
    for path in draw(st.lists(st.sampled_from(sorted(key_paths())), max_size=8)):
        below = root
        for step in path[:-1]:
            key = draw(st.sampled_from(["groq", "simulated", "fast"])) if step == "*" else step
            child = below.setdefault(key, {})
            if not isinstance(child, dict):
                child = below[key] = {}
            below = child
        below[path[-1]] = draw(VALUES)
    return root


def outcome(file: Path, text: str | bytes, environ: dict[str, str]) -> Config | ConfigError:
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return load(file, environ)
    except ConfigError as error:
        assert error.problems
        assert all(problem.source and problem.message for problem in error.problems)
        assert str(error).encode()
        assert len(str(error).splitlines()) == len(error.problems)
        return error


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "any.yaml"


@SETTINGS
@given(st.binary() | st.text(alphabet="{}[]:-&*!#|>'\"\n\t ax%@`,?<"))
@example(b"\xff\xfe")
def test_any_text(file: Path, text: str | bytes) -> None:
    """Bytes that are no YAML, and YAML that is no configuration."""
    outcome(file, text, {})


@SETTINGS
@given(VALUES | likely())
def test_any_settings(file: Path, value: object) -> None:
    """Anything that YAML can hold."""
    outcome(file, yaml.safe_dump(value), {"A": "x"})


@SETTINGS
@given(
    st.dictionaries(
        st.lists(
            st.sampled_from([key.upper() for key in KEYS]) | st.text("AB_", min_size=1),
            min_size=1,
            max_size=4,
        ).map(lambda steps: "OUTRIDER_" + "__".join(steps)),
        st.sampled_from(["", "1", "{}", "[", "[a]", "{a: b}", "groq", "\udcff"]) | st.text(),
        max_size=6,
    ),
    likely(),
)
def test_any_environment(file: Path, environ: dict[str, str], value: object) -> None:
    """Any variables, over any file."""
    outcome(file, json.dumps(value, default=str), {**environ, "OUTRIDER_CONFIG": ""})


@SETTINGS
@given(likely())
def test_loading_is_repeatable(file: Path, value: object) -> None:
    """The same sources give the same configuration or the same problems."""
    text = yaml.safe_dump(value)
    first, second = outcome(file, text, {}), outcome(file, text, {})

    assert str(first) == str(second)
