"""What a simulated provider is to answer from, looked at before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.config.tree import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outrider.config.schema_provider import Simulated
    from outrider.config.tree import KeyPath


def simulated_findings(at: KeyPath, settings: Simulated) -> Iterator[Finding]:
    """A script that cannot be read, and a folder that is not there."""
    if settings.script is not None:
        # Who plays scripts knows them; most configurations have none.
        from outrider.providers.simulated_script import parse_script

        try:
            parse_script(settings.script)
        except ValueError as error:
            yield Finding((*at, "script"), str(error))
    if settings.replay is not None and not _is_folder(settings.replay):
        yield Finding((*at, "replay"), "there is no such folder, or it cannot be read")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
