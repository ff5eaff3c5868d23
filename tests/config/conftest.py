from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from outrider.config import Config, ConfigError, load

Load = Callable[..., Config]
Problems = Callable[..., list[str]]


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a text as `outrider.yaml`, with an environment."""
    monkeypatch.chdir(tmp_path)

    def load_(text: str | bytes, environ: Mapping[str, str] | None = None) -> Config:
        file = Path("outrider.yaml")
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(file, environ or {})

    return load_


@pytest.fixture
def problems(load_text: Load) -> Problems:
    """The lines of the error that loading a text ends with."""

    def problems_(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as error:
            load_text(text, environ)
        assert str(error.value).splitlines() == [str(problem) for problem in error.value.problems]
        return str(error.value).splitlines()

    return problems_
