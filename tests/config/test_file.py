"""What the file may hold, and where it is looked for."""

from pathlib import Path

import pytest

from outrider.config import Config, ConfigError, load
from tests.config.conftest import Load, Problems


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable: a sidecar on loopback with the simulated provider."""
    monkeypatch.chdir(tmp_path)

    config = load(None, {})

    assert list(config.providers) == ["simulated"]
    assert config == Config(providers=config.providers)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "server:\n", "server: {}\nproviders:\n"])
def test_what_is_left_empty_counts_as_not_written(load_text: Load, text: str) -> None:
    """An empty file or an empty section means the defaults."""
    config = load_text(text)

    assert config == Config(providers=config.providers)
    assert list(config.providers) == ["simulated"]


def test_the_file_in_the_working_directory_is_found(load_text: Load) -> None:
    """Without a path, `./outrider.yaml` is read."""
    load_text("log: {level: debug}")

    assert load(None, {}).log.level == "debug"


def test_outrider_config_names_the_file(load_text: Load, tmp_path: Path) -> None:
    """OUTRIDER_CONFIG is stronger than the file in the working directory; a given path is stronger still."""
    load_text("log: {level: debug}")
    other = tmp_path / "other.yaml"
    other.write_text("log: {level: error}")
    environ = {"OUTRIDER_CONFIG": str(other)}

    assert load(None, environ).log.level == "error"
    assert load(Path("outrider.yaml"), environ).log.level == "debug"


@pytest.mark.parametrize("name", ["absent.yaml", "outrider.yaml/x", ".", "a\0b"])
def test_a_named_file_that_cannot_be_read_is_an_error(load_text: Load, name: str) -> None:
    """A file that was asked for and cannot be read is not passed over."""
    load_text("")

    with pytest.raises(ConfigError, match="cannot be read"):
        load(None, {"OUTRIDER_CONFIG": name})


def test_texts_keep_their_form(load_text: Load) -> None:
    """What YAML would take for a number, a boolean or a date stays text where the setting is text."""
    config = load_text(
        """
        providers:
          openai: {default_model: 1.10, models: [no, 2024-01-01, 0123, 1e3, "null"]}
        """
    )

    assert config.providers["openai"].default_model == "1.10"
    assert config.providers["openai"].models == ("no", "2024-01-01", "0123", "1e3", "null")


def test_all_sections_are_read(load_text: Load) -> None:
    """Numbers, switches, lists, mappings and nested sections arrive as what their setting says."""
    config = load_text(
        """
        server: {listen: "[::1]:0", unix_socket: /run/o.sock, reflection: off, max_message_bytes: 10MB}
        providers:
          local:
            base_url: http://10.0.0.1:8000/v1/
            headers: {X-Team: search}
            limits: {requests_per_minute: 90, max_wait: 500ms}
          flaky: {format: simulated, simulated: {failure: Overloaded_Midway, failure_rate: 0.5, seed: 7}}
        routes:
          fast: [local/llama, flaky/echo]
          deep: {targets: [local/meta/llama-70b]}
        prices: {local/llama: {input: 0.1, output: 1}}
        """
    )

    assert config.server.address == ("::1", 0)
    assert config.server.reflection is False
    assert config.server.max_message_bytes == 10_000_000
    assert config.providers["local"].base_url == "http://10.0.0.1:8000/v1"
    assert config.providers["local"].headers == {"X-Team": "search"}
    assert config.providers["local"].limits.max_wait == 0.5
    simulated = config.providers["flaky"].simulated
    assert simulated is not None
    assert (simulated.failure, simulated.failure_rate, simulated.seed) == ("overloaded_midway", 0.5, 7)
    assert config.routes["fast"].names == ("local/llama", "flaky/echo")
    assert config.routes["deep"].names == ("local/meta/llama-70b",)
    assert str(config.prices["local/llama"].input) == "0.1"


def test_aliases_of_yaml_work(load_text: Load) -> None:
    """What is anchored once can be used again."""
    config = load_text("timeouts: &t {idle: 5s}\nproviders: {simulated: {timeouts: *t}}")

    assert config.timeouts.idle == config.timeouts_for("simulated").idle == 5.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "outrider.yaml:2: not valid YAML: "),
        ("server:\n\tlisten: x", "outrider.yaml:2: not valid YAML: "),
        ("log: *missing", "outrider.yaml:1: not valid YAML: "),
        ("---\n{}\n---\n{}", "outrider.yaml:3: not valid YAML: "),
        ("a: \x01", "outrider.yaml: not valid YAML: a character that is not allowed"),
        (b"log:\n  level: \xff", "outrider.yaml:2: not UTF-8 text"),
        ("x" * 2**20 + "x", "outrider.yaml: larger than 1 MiB"),
        ("- a", "outrider.yaml:1: must be a mapping"),
        ("text", "outrider.yaml:1: must be a mapping"),
        (
            "log: {level: info}\nlog: {level: info}",
            "outrider.yaml:2: log: duplicate key; it stands on line 1",
        ),
        (
            "log:\n  level: info\n  level: info",
            "outrider.yaml:3: log.level: duplicate key; it stands on line 2",
        ),
        ("log:\n  ? [a]\n  : b", "outrider.yaml:2: log: a key must be text"),
        ("log:\n  <<: {level: info}", "outrider.yaml:2: log: merge keys (<<) are not supported"),
        ("log: !!python/name:os.system {}", "outrider.yaml:1: log: YAML tags are not supported"),
        ("log: {level: !secret x}", "outrider.yaml:1: log.level: YAML tags are not supported"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(problems: Problems, text: str | bytes, problem: str) -> None:
    """Broken syntax, encodings, duplicate keys and tags are errors with their line."""
    assert [line for line in problems(text) if line.startswith(problem)]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 50_000,
        "- " * 100_000 + "x",
        "a: &a [*a]",
        "a: &a\n  b: *a",
        "a: &a [x]\n"
        + "".join(
            f"{y}: &{y} [{', '.join([f'*{x}'] * 9)}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
    ids=["brackets", "braces", "dashes", "recursive list", "recursive mapping", "billion laughs"],
)
def test_hostile_yaml_is_refused_at_once(problems: Problems, text: str) -> None:
    """Deep nesting and exploding aliases neither crash nor hang: they are errors."""
    (line,) = problems(text)

    assert "nested deeper" in line or "too large" in line


def test_a_byte_order_mark_is_skipped(load_text: Load) -> None:
    """A file that an editor has marked as UTF-8 is read like any other."""
    assert load_text(b"\xef\xbb\xbflog: {level: debug}").log.level == "debug"
