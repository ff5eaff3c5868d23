"""The example and the page about configuration say what is so."""

import re
from pathlib import Path

import pytest
import yaml

from outrider.config import Config, ConfigError, load
from outrider.config.environment import ALIASES, GROQ_ALIASES
from outrider.config.shape import key_paths, kind_at
from outrider.config.tree import dotted
from tests.config.conftest import Load

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "outrider.example.yaml"
PAGE = (ROOT / "docs" / "configuration.md").read_text()


def complete() -> str:
    """The example with every setting in it switched on."""
    return re.sub(r"(?m)^(\s*)#(?=[a-z])", r"\1", EXAMPLE.read_text())


def keys_of(settings: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The paths of all keys in settings, with "*" for names."""
    found: set[tuple[str, ...]] = set()
    for key, value in settings.items() if isinstance(settings, dict) else ():
        known = (*path, str(key)) in ALL
        here = (*path, str(key) if known else "*")
        found |= {here} | keys_of(value, here)
    return found


ALL = set(key_paths())


def test_the_example_loads_and_holds_the_defaults() -> None:
    """As it stands the example needs no variable, and changes nothing but the providers."""
    config = load(EXAMPLE, {})

    assert config == Config(providers=config.providers)
    assert all(config.timeouts_for(name) == config.timeouts for name in config.providers)
    assert set(config.providers) == {"openai", "anthropic", "groq", "simulated"}


def test_the_example_is_complete(load_text: Load) -> None:
    """With everything switched on it is valid and shows every setting at least once."""
    Path("recordings").mkdir()  # which it replays
    load_text(complete(), {"CHECKOUT_TOKEN": "secret"})

    common = {
        (section, name)
        for section, names in {"providers": ("timeouts", "attempts"), "routes": ("timeouts", "cache")}.items()
        for name in names
    }
    overrides = {path for path in ALL if (path[0], *path[2:3]) in common}
    assert ALL - keys_of(yaml.safe_load(complete())) <= {path for path in overrides if path[2:] in ALL}


def test_every_setting_is_described() -> None:
    """The schema says of each setting what it means."""
    for path in ALL:
        if path[-1] != "*":
            above = kind_at(path[:-1])
            assert above.model_fields[path[-1]].description.endswith("."), path


def test_the_page_lists_the_aliases() -> None:
    """The table of the page is that of the code."""
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)`", PAGE, re.MULTILINE)

    assert rows == [(name, dotted(path)) for name, path in (ALIASES | GROQ_ALIASES).items()]


def test_the_page_shows_what_errors_look_like(load_text: Load) -> None:
    """The error on the page is the one that its file ends with."""
    text, shown = re.findall(r"```(?:yaml|text)\n(.*?)```", PAGE, re.DOTALL)

    with pytest.raises(ConfigError) as error:
        load_text(text, {"OUTRIDER_SERVER_LISTEN": "x"})

    assert f"{error.value}\n" == shown


def test_the_variables_on_the_page_work(load_text: Load) -> None:
    """The shell lines of the page can be used as they are."""
    lines = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert lines
    environ = dict(line.replace("'", "").split("=", 1) for line in lines[1].splitlines())

    config = load_text("", environ)

    assert config.server.address == ("127.0.0.1", 6000)
    assert config.routes["fast"].names == ("openai/gpt-5-mini", "simulated/echo")
    assert config.timeouts.total == 60.0
