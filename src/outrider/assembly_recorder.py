"""From configuration to providers that are recorded, and to recordings that are played."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outrider.config import Config, Simulated
    from outrider.core.ports import Provider
    from outrider.providers.recordings import Recordings


def recorded(
    config: Config, providers: dict[str, Provider], secrets: Callable[[], Iterable[str]]
) -> dict[str, Provider]:
    """The same providers; where a folder is configured, with the recorder around all that do not replay."""
    folder = config.recorder.folder
    if folder is None:
        return providers
    from outrider.providers.recorder import Recorder, RecordingProvider

    recorder = Recorder(folder, secrets)

    def wrapped(name: str, provider: Provider) -> Provider:
        simulated = config.providers[name].simulated
        return provider if simulated and simulated.replay else RecordingProvider(provider, recorder)

    return {name: wrapped(name, provider) for name, provider in providers.items()}


async def recordings(settings: Simulated) -> Recordings | None:
    """What a simulated provider replays, if anything. Raises ValueError where the folder is not there."""
    if settings.replay is None:
        return None
    from outrider.providers.recordings import Recordings

    return await asyncio.to_thread(Recordings, settings.replay)
