"""Which providers there are, where their keys come from, and what they override."""

import pytest

from outrider.config import Config
from outrider.config.values import FAILURE_KINDS
from outrider.config.vendors import KEY_VARIABLES, SIMULATED
from outrider.providers import simulated_models
from outrider.providers.vendors import VENDORS
from tests.config.conftest import Load

KEYS = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a", "GROQ_API_KEY": "g"}


def key(config: Config, provider: str) -> str | None:
    secret = config.providers[provider].api_key
    return secret.get_secret_value() if secret else None


def test_keys_in_the_environment_make_providers(load_text: Load) -> None:
    """With no providers written: a vendor for each key, and the simulated one last."""
    config = load_text("log: {level: debug}", KEYS)

    assert list(config.providers) == ["openai", "anthropic", "groq", "simulated"]
    assert [key(config, name) for name in config.providers] == ["o", "a", "g", None]
    assert list(load_text("", {"GROQ_API_KEY": "g", "OPENAI_API_KEY": ""}).providers) == ["groq", "simulated"]


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("", {"LLM_PRIMARY_PROVIDER": "GROQ"}),
        ("", {"LLM_FALLBACK_PROVIDER": "groq"}),
        ("routes: {fast: [simulated/a, groq/b]}", {}),
        ("routes: {fast: {targets: [groq/b]}}", {}),
        ("default_model: groq/llama", {}),
        ("", {"OUTRIDER_PROVIDERS__GROQ__TRANSPORT": "sdk"}),
    ],
)
def test_a_vendor_without_its_key_is_there_where_it_is_mentioned(
    load_text: Load, text: str, environ: dict[str, str]
) -> None:
    """A missing key disables a provider later on; it is no error of the configuration."""
    config = load_text(text, environ)

    assert list(config.providers) == ["groq", "simulated"]
    assert key(config, "groq") is None


def test_variables_for_one_provider_leave_the_others_there(load_text: Load) -> None:
    """Setting something of one provider is not choosing the providers; real ones stay before simulated."""
    environ = KEYS | {
        "OUTRIDER_PROVIDERS__SIMULATED__SIMULATED__SEED": "5",
        "OUTRIDER_PROVIDERS__LOCAL__BASE_URL": "http://127.0.0.1:1/v1",
    }

    assert list(load_text("", environ).providers) == ["openai", "anthropic", "groq", "local", "simulated"]


def test_providers_that_are_written_are_all_there_are(load_text: Load) -> None:
    """With providers in the file, or in OUTRIDER_PROVIDERS, keys make no others."""
    assert list(load_text("providers: {groq: }", KEYS).providers) == ["groq"]
    assert list(load_text("", KEYS | {"OUTRIDER_PROVIDERS": "{groq: {}}"}).providers) == ["groq"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", "o"),
        ("api_key: ", "o"),
        ("api_key: mine", "mine"),
        ("api_key: ' mine '", "mine"),
        ("api_key: ${MINE}", None),
        ("api_key: '${MINE:-}'", None),
        ("api_key: ''", None),
        ("api_key_file: /key", None),
        ("api_key_file: ''", "o"),
    ],
)
def test_a_key_that_is_not_written_comes_from_the_usual_variable(
    load_text: Load, written: str, expected: str | None
) -> None:
    """The vendor's variable is read only where nothing is written: an unset `${VAR}` means no key at all."""
    assert key(load_text(f"providers:\n  openai:\n    {written}", KEYS), "openai") == expected


def test_other_names_have_no_usual_variable(load_text: Load) -> None:
    """A key is never sent to a server that merely speaks its vendor's format."""
    config = load_text("providers: {local: {format: openai, base_url: http://127.0.0.1:1}}", KEYS)

    assert key(config, "local") is None


def test_overrides_are_laid_over_the_common_settings(load_text: Load) -> None:
    """A provider's own timeouts and attempts replace only what they name."""
    config = load_text(
        """
        timeouts: {connect: 1s, idle: 2s}
        attempts: {max_attempts: 5, base_delay: 3s}
        providers:
          groq: {timeouts: {idle: 9s}, attempts: {max_attempts: 1}}
          simulated:
        """
    )

    assert config.timeouts_for("simulated") == config.timeouts
    assert config.timeouts_for("groq") == config.timeouts.model_copy(update={"idle": 9.0})
    assert config.attempts_for("simulated") == config.attempts
    assert config.attempts_for("groq") == config.attempts.model_copy(update={"max_attempts": 1})


def test_the_failures_are_those_that_the_simulated_provider_plays() -> None:
    """Their names are the same in both places."""
    assert set(FAILURE_KINDS) == set(simulated_models.FAILURE_KINDS)


def test_the_vendors_are_those_that_providers_know() -> None:
    """Names and key variables are the same in both places."""
    assert {name: vendor.key_env for name, vendor in VENDORS.items()} == KEY_VARIABLES | {SIMULATED: ""}
