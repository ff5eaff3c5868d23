"""From configuration to the streams that callers come back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.policy.resume import ResumableStreams, ResumeRules

if TYPE_CHECKING:
    from outrider.config import Config
    from outrider.core.ports import Handler
    from outrider.core.streams import SharedStreams
    from outrider.stores.redis_link import RedisLink


def streams(config: Config, pipeline: Handler, link: RedisLink | None) -> ResumableStreams | None:
    """Over the whole pipeline; None where they are switched off."""
    resume = config.resume
    if not resume.enabled:
        return None
    rules = ResumeRules(resume.keep, resume.max_bytes, resume.grace)
    return ResumableStreams(pipeline, rules, _shared(rules, link))


def _shared(rules: ResumeRules, link: RedisLink | None) -> SharedStreams | None:
    if link is None:
        return None
    from outrider.stores.redis_streams import RedisStreams

    return RedisStreams(link, keep=rules.keep, grace=rules.grace)
