"""From a file and the environment to a configuration, or to everything that is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from outrider.config import yaml_source
from outrider.config.environment import (
    ALIASES,
    FILE_VARIABLE,
    GROQ_ALIASES,
    PREFIX,
    apply_aliases,
    apply_overrides,
)
from outrider.config.errors import ConfigError, Problem
from outrider.config.explain import to_problem
from outrider.config.interpolate import Interpolation
from outrider.config.older_names import use_new_names
from outrider.config.tree import Finding, Origin, Tree
from outrider.config.validate import validate
from outrider.config.vendors import add_keys, add_providers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.config.schema import Config

SEARCHED = (Path("outrider.yaml"), Path("/etc/outrider/outrider.yaml"))


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration: a file with the environment over it. Raises ConfigError with all that is wrong.

    Without a path: the file that OUTRIDER_CONFIG names, else the first of SEARCHED that exists, else none.
    """
    file = _find(path, environ)
    tree, found = _read(file, environ) if file else (Tree(), [])
    use_new_names(tree, found)
    given = bool(tree.get("providers") or environ.get(f"{PREFIX}PROVIDERS"))
    found += apply_overrides(tree, environ)
    apply_aliases(tree, environ, ALIASES)
    if not given:
        add_providers(tree, environ)
    apply_aliases(tree, environ, GROQ_ALIASES)
    add_keys(tree, environ)
    config = validate(tree, found)
    if config is None:
        elsewhere = str(file) if file else "environment"
        raise ConfigError(to_problem(finding, tree, elsewhere) for finding in found)
    return config


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = environ.get(FILE_VARIABLE)
    if path or named:
        return path or Path(named or "")
    return next(filter(_exists, SEARCHED), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # it may be there: let reading it say why it cannot be used


def _read(file: Path, environ: Mapping[str, str]) -> tuple[Tree, list[Finding]]:
    """What a file says, references replaced, and what is wrong with it."""
    source = str(file)
    try:
        document = yaml_source.parse(_text(file))
    except yaml_source.YamlError as error:
        raise ConfigError([Problem(source, error.line, "", error.message)]) from None
    references = Interpolation(environ)
    root = references.apply(document.value)
    if not isinstance(root, dict | None):
        raise ConfigError(
            [Problem(source, 1, "", "must be a mapping, such as `server:` with its keys below it")]
        )
    origins = {path: Origin(source, line) for path, line in document.lines.items()}
    faults = [Finding(path, message, Origin(source, line)) for line, path, message in document.faults]
    return Tree(root or {}, origins), faults + references.findings


def _text(file: Path) -> str:
    """The text of a file. Raises YamlError where there is none."""
    try:
        with file.open("rb") as stream:
            data = stream.read(yaml_source.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise yaml_source.YamlError(f"cannot be read: {reason}") from None
    if len(data) > yaml_source.MAX_BYTES:
        raise yaml_source.YamlError(f"larger than {yaml_source.MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise yaml_source.YamlError("not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from None
