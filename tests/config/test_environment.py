"""What the environment sets, and which source wins."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from outrider.config import ConfigError, load
from outrider.config.environment import ALIASES, GROQ_ALIASES
from outrider.config.shape import is_scalar, key_paths, kind_at
from tests.config.conftest import Load, Problems

FIXED = [path for path in key_paths() if "*" not in path]


def test_every_fixed_setting_has_a_variable(load_text: Load) -> None:
    """Each setting that is one text is reached by its keys in upper case: none is refused as unknown."""
    environ = {f"OUTRIDER_{'__'.join(path).upper()}": "?" for path in FIXED if is_scalar(kind_at(path))}

    with pytest.raises(ConfigError) as error:
        load_text("", environ)

    assert len(environ) > 30
    assert "unknown" not in str(error.value)


def test_variables_are_stronger_than_the_file(load_text: Load) -> None:
    """A variable replaces what the file says, and leaves its neighbours alone."""
    config = load_text(
        "timeouts: {idle: 5s, connect: 1s}\nproviders: {my-llm: {base_url: http://a/v1}}",
        {"OUTRIDER_TIMEOUTS__IDLE": "7s", "OUTRIDER_PROVIDERS__MY_LLM__BASE_URL": "http://b/v1"},
    )

    assert (config.timeouts.idle, config.timeouts.connect) == (7.0, 1.0)
    assert config.providers["my-llm"].base_url == "http://b/v1"
    assert list(config.providers) == ["my-llm"]


def test_lists_and_mappings_are_yaml_or_json(load_text: Load) -> None:
    """A variable for a list or a mapping replaces it as a whole; a longer variable goes over that."""
    config = load_text(
        "routes: {slow: [simulated/a]}\ntimeouts: {idle: 5s}",
        {
            "OUTRIDER_ROUTES": '{"fast": ["simulated/a", "simulated/b"]}',
            "OUTRIDER_ROUTES__DEEP__TARGETS": "[simulated/c]",
            "OUTRIDER_TIMEOUTS": "connect: 2s",
            "OUTRIDER_TIMEOUTS__TOTAL": "9",
        },
    )

    assert {name: route.names for name, route in config.routes.items()} == {
        "fast": ("simulated/a", "simulated/b"),
        "deep": ("simulated/c",),
    }
    assert (config.timeouts.idle, config.timeouts.connect, config.timeouts.total) == (60.0, 2.0, 9.0)


def test_a_list_of_targets_is_replaced_by_its_mapping(load_text: Load) -> None:
    """An alias that the file writes as a list can be set through its key as well."""
    config = load_text("routes: {fast: [simulated/a]}", {"OUTRIDER_ROUTES__FAST__TARGETS": "[simulated/b]"})

    assert config.routes["fast"].names == ("simulated/b",)


def test_texts_are_taken_as_they_are(load_text: Load) -> None:
    """The value of a text setting is not YAML, and nothing in it is replaced."""
    script = "{a: [${HOME} # 1"

    config = load_text("", {"OUTRIDER_PROVIDERS__SIMULATED__SIMULATED__SCRIPT": script})

    simulated = config.providers["simulated"].simulated
    assert simulated is not None
    assert simulated.script == script


def test_an_empty_variable_never_takes_authentication_away(load_text: Load) -> None:
    """An empty text for a mapping is as if the variable was not set."""
    text = "callers: {a: {token: secret}}"

    assert list(load_text(text, {"OUTRIDER_CALLERS": ""}).callers) == ["a"]
    assert list(load_text(text, {"OUTRIDER_CALLERS": "{}"}).callers) == []


def test_an_empty_variable_leaves_an_optional_setting_out(load_text: Load) -> None:
    """An empty text clears a setting that may be left out, and turns an address off."""
    config = load_text(
        "server: {unix_socket: /run/o.sock}\ndefault_model: simulated",
        {"OUTRIDER_DEFAULT_MODEL": "", "OUTRIDER_SERVER__LISTEN": ""},
    )

    assert config.default_model is None
    assert config.server.address is None


ALIAS_VALUES: dict[str, tuple[str, object, str, object]] = {
    # what the variable says and means, and what something stronger says and means
    "LLM_RETRY_MAX_ATTEMPTS": ("5", 5, "2", 2),
    "LLM_RETRY_BASE_DELAY": ("0.5", 0.5, "2", 2.0),
    "LLM_RESPONSE_TIMEOUT": ("45", 45.0, "1m", 60.0),
    "LLM_MAX_RESPONSE_SIZE": ("1048576", 1_048_576, "2MiB", 2_097_152),
    "LLM_PRIMARY_PROVIDER": ("groq", "groq", "simulated", "simulated"),
    "LLM_FALLBACK_PROVIDER": ("openai", "openai", "simulated", "simulated"),
    "LLM_MAX_TOKENS": ("2000", 2000, "10", 10),
    "LLM_TEMPERATURE": ("0.3", 0.3, "1", 1.0),
    "LLM_ENABLE_USAGE_TRACKING": ("0", False, "true", True),
    "REDIS_URL": ("redis://a", SecretStr("redis://a"), "redis://b/1", SecretStr("redis://b/1")),
    "GROQ_MODEL": ("llama-3.3-70b", "llama-3.3-70b", "other", "other"),
    "GROQ_TIMEOUT": ("20", 20.0, "1m", 60.0),
    "GROQ_MAX_RETRIES": ("0", 1, "4", 4),
    "GROQ_RATE_LIMIT_RPM": ("30", 30.0, "60", 60.0),
    "GROQ_RATE_LIMIT_RPD": ("14400", 14_400, "100", 100),
}


@pytest.mark.parametrize("variable", ALIAS_VALUES)
def test_the_names_that_services_already_set_are_accepted(load_text: Load, variable: str) -> None:
    """Each alias sets its setting; the file is stronger, and the OUTRIDER_ variable stronger still."""
    path = (ALIASES | GROQ_ALIASES)[variable]
    text, meaning, stronger, stronger_meaning = ALIAS_VALUES[variable]
    providers: dict[str, object] = {"providers": {"groq": {}, "openai": {}, "simulated": {}}}
    written = set_in(deepcopy(providers), path, stronger)
    override = f"OUTRIDER_{'__'.join(path).upper()}"

    def value(settings: object, environ: dict[str, str]) -> object:
        return get_from(load_text(json.dumps(settings), environ), path)

    assert value(providers, {variable: text}) == meaning
    assert value(written, {variable: text}) == stronger_meaning
    assert value(providers, {variable: text, override: stronger}) == stronger_meaning
    assert value(set_in(deepcopy(providers), path, text), {override: stronger}) == stronger_meaning


def set_in(settings: dict[str, Any], path: tuple[str, ...], value: str) -> dict[str, Any]:
    below = settings
    for key in path[:-1]:
        below = below.setdefault(key, {})
    below[path[-1]] = value
    return settings


def get_from(found: object, path: tuple[str, ...]) -> object:
    for key in path:
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    return found


def test_aliases_cover_what_was_promised() -> None:
    """No name that services set is missing."""
    assert set(ALIASES | GROQ_ALIASES) == set(ALIAS_VALUES)


def test_aliases_of_a_vendor_do_not_create_it(load_text: Load) -> None:
    """GROQ_MODEL alone makes no provider, and is not looked at."""
    assert list(load_text("", {"GROQ_MODEL": "x", "GROQ_TIMEOUT": "nonsense"}).providers) == ["simulated"]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"OUTRIDER_SERVER_LISTEN": "x"}, "unknown variable; did you mean OUTRIDER_SERVER__LISTEN?"),
        ({"OUTRIDER_SEVER__LISTEN": "x"}, "unknown variable; did you mean OUTRIDER_SERVER__LISTEN?"),
        ({"OUTRIDER_LOG__LEVL": "x"}, "unknown variable; did you mean OUTRIDER_LOG__LEVEL?"),
        (
            {"OUTRIDER_PROVIDERS__OPENAI__BASEURL": "x"},
            "unknown variable; did you mean OUTRIDER_PROVIDERS__OPENAI__BASE_URL?",
        ),
        ({"OUTRIDER_ZZZ": "x"}, "unknown variable; levels are separated by two underscores, as in OUT"),
        ({"OUTRIDER_": "x"}, "unknown variable; levels are"),
        ({"OUTRIDER_LOG__LEVEL__X": "x"}, "unknown variable; set OUTRIDER_LOG__LEVEL as a whole"),
        ({"OUTRIDER_PRICES__GPT__INPUT": "1"}, "unknown variable; set OUTRIDER_PRICES as a whole"),
        ({"OUTRIDER_LOG__LEVEL": "x"}, "log.level: must be 'debug', 'info', 'warning' or 'error'"),
        ({"OUTRIDER_LOG": "[info]"}, "log: must be a mapping"),
        ({"OUTRIDER_LOG": "{level: x}"}, "log.level: must be 'debug'"),
        ({"OUTRIDER_LOG": "{level: info, level: info}"}, "log.level: duplicate key"),
        ({"OUTRIDER_ROUTES__FAST": "[a"}, "routes.fast: not valid YAML"),
        ({"OUTRIDER_ROUTES": "[" * 99}, "routes: nested deeper than 32 levels"),
        ({"OUTRIDER_ROUTES": "\udcff"}, "routes: not valid YAML: a character that is not allowed"),
        ({"OUTRIDER_CALLERS__A__MODELS": "[x]"}, "callers.a: has no token"),
        ({"LLM_MAX_TOKENS": "many"}, "defaults.max_output_tokens: must be a whole number"),
        ({"OPENAI_API_KEY": "schlüssel"}, "providers.openai.api_key: must be printable ASCII without spaces"),
        ({"LLM_PRIMARY_PROVIDER": "grok"}, "primary_provider: provider 'grok' is not configured"),
        (
            {"GROQ_API_KEY": "k", "GROQ_MAX_RETRIES": "-1"},
            "providers.groq.attempts.max_attempts: must be at le",
        ),
    ],
)
def test_a_bad_variable_is_named(problems: Problems, environ: dict[str, str], problem: str) -> None:
    """A variable that leads nowhere or holds a bad value is named, with what would be right."""
    variable = list(environ)[-1]

    (line,) = problems("", environ)

    assert line.startswith(f"{variable}: {problem}")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OUTRIDER_CONFIG", ""),
        ("OUTRIDER_RECORDED", "/somewhere"),
        ("OUTRIDER_SERVICE_HOST", "10.0.0.1"),
        ("OUTRIDER_SERVICE_PORT", "9464"),
        ("OUTRIDER_SERVICE_PORT_ADMIN", "9464"),
        ("OUTRIDER_PORT", "tcp://10.0.0.1:9464"),
        ("OUTRIDER_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("OUTRIDER_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("OUTRIDER_CONSOLE_SERVICE_HOST", "10.0.0.1"),
        ("OUTRIDER_CONSOLE_PORT", "tcp://10.0.0.1:80"),
        ("OUTRIDERS", "x"),
    ],
)
def test_what_is_no_setting_is_passed_over(load_text: Load, variable: str, value: str) -> None:
    """Kubernetes describes Services named outrider… by variables that begin like ours."""
    assert load_text("", {variable: value}) == load_text("")


def test_a_mistyped_port_is_not_taken_for_kubernetes(problems: Problems) -> None:
    """Only a Service's URL is passed over, not a number."""
    assert problems("", {"OUTRIDER_SERVER_PORT": "80"})


def test_without_a_file_the_sources_are_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing but the environment is wrong, it is what is named."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"^OUTRIDER_ADMIN__LISTEN: admin.listen: must be"):
        load(None, {"OUTRIDER_ADMIN__LISTEN": "9464"})
