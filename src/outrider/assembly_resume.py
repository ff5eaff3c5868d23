"""From configuration to the answers that callers come back to, by a request's id or by an idempotency key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from outrider.policy.keyed import KeyedRequests
from outrider.policy.resume import ResumableStreams, ResumeRules
from outrider.telemetry.stream_metrics import StreamMetrics

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from outrider.config import Config
    from outrider.core.ports import Handler
    from outrider.stores.redis_link import RedisLink


class Streams(NamedTuple):
    """What goes on without its callers."""

    resumable: ResumableStreams | None  # None: switched off
    keyed: KeyedRequests

    @property
    def metrics(self) -> StreamMetrics:
        """What there is to know of them."""
        return StreamMetrics(replays=lambda: self.keyed.replays, alone=self.alone)

    def alone(self) -> int:
        """How many run that nobody reads here."""
        return self.keyed.streams.alone + (self.resumable.alone if self.resumable is not None else 0)


def open_streams(
    config: Config, pipeline: Handler, link: RedisLink | None, closing: AsyncExitStack
) -> Streams:
    """Over the whole pipeline; `closing` gets what has to be closed."""
    resume, keys = config.resume, config.idempotency
    resumable = None
    if resume.enabled:
        rules = ResumeRules(resume.keep, resume.max_bytes, resume.grace)
        resumable = _resumable(pipeline, rules, link)
        closing.push_async_callback(resumable.aclose)
    keyed = _keyed(pipeline, ResumeRules(keys.keep, keys.max_bytes, keys.grace), link)
    closing.push_async_callback(keyed.aclose)
    return Streams(resumable, keyed)


def _resumable(pipeline: Handler, rules: ResumeRules, link: RedisLink | None) -> ResumableStreams:
    if link is None:
        return ResumableStreams(pipeline, rules)
    from outrider.stores.redis_streams import RedisStreams

    return ResumableStreams(pipeline, rules, RedisStreams(link, grace=rules.grace))


def _keyed(pipeline: Handler, rules: ResumeRules, link: RedisLink | None) -> KeyedRequests:
    if link is None:
        return KeyedRequests(pipeline, rules)
    from outrider.stores.redis_keys import RedisKeys
    from outrider.stores.redis_streams import RedisStreams

    keys, copies = RedisKeys(link, keep=rules.keep), RedisStreams(link, grace=rules.grace)
    return KeyedRequests(pipeline, rules, keys, copies)
