"""What is told of the configuration: that it was loaded, and secrets that change in their files."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from outrider import __version__
from outrider.core.events import Event, EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outrider.assembly import SecretNews
    from outrider.config import Config
    from outrider.core.events import Fact


def loaded(config: Config) -> Event:
    """The event of a configuration that is in force from now on."""
    facts: dict[str, Fact] = {"version": __version__, "digest": digest(config)}
    named: dict[str, Mapping[str, object]] = {
        "providers": config.providers,
        "routes": config.routes,
        "callers": config.callers,
    }
    facts |= {kind: ", ".join(names) for kind, names in named.items() if names}
    return Event(EventType.CONFIG_LOADED, "configuration", facts)


def digest(config: Config) -> str:
    """The same for all who set the same: 64 hexadecimal digits over what is no default and no secret."""
    # Secrets are written as stars; headers may hold some, too. The source tells sidecars of a fleet apart.
    written = config.model_dump_json(
        exclude={"providers": {"__all__": {"headers"}}, "events": {"source"}}, exclude_defaults=True
    )
    return hashlib.sha256(written.encode()).hexdigest()


def secret_news(emit: Callable[[Event], None]) -> SecretNews:
    """Tells of secrets by events, on the loop that runs now: another thread may have looked at the file."""
    loop = asyncio.get_running_loop()

    def tell(setting: str, taken: bool, problem: str) -> None:
        facts: dict[str, Fact] = {"taken": taken, **({"problem": problem} if problem else {})}
        with suppress(RuntimeError):  # the loop has ended, and with it whoever listened
            loop.call_soon_threadsafe(emit, Event(EventType.SECRET_CHANGED, setting, facts))

    return tell
