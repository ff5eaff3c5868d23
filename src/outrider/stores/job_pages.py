"""Lists of jobs, page by page, newest first: ids sort by time of arrival, and a page token is one of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from outrider.core.jobs import Page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider import v1

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_USUAL, _MOST = 100, 1_000


def page_size(query: v1.ListJobsRequest) -> int:
    """How many are asked for."""
    return min(query.page_size or _USUAL, _MOST)


def start_of(query: v1.ListJobsRequest) -> str:
    """The id before which to begin; empty: at the newest. Raises ValueError for a page token that is none."""
    if query.page_token and not _ID.fullmatch(query.page_token):
        raise ValueError("not a page token")
    return query.page_token


def fits(query: v1.ListJobsRequest, caller: str, *, state: int, batch: str, tenant: str, owner: str) -> bool:
    """Whether a job is one of those that are asked for."""
    return (
        (not caller or owner == caller)
        and (not query.states or state in query.states)
        and (not query.batch_id or batch == query.batch_id)
        and (not query.tenant or tenant == query.tenant)
    )


def merge(pages: Iterable[Page], size: int) -> Page:
    """One page of several. A job that is in more than one is taken from the first."""
    pages = list(pages)
    until = max(page.next for page in pages)  # what is older may be on a page that was not read
    jobs = {job.job_id: job for page in reversed(pages) for job in page.jobs if job.job_id >= until}
    newest = sorted(jobs, reverse=True)
    more = until if len(newest) <= size else newest[size - 1]
    return Page([jobs[job_id] for job_id in newest[:size]], more)
