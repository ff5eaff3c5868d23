"""What a stored answer is told by, without looking into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outrider.core.answers import StoredAnswer

if TYPE_CHECKING:
    from outrider import v1


class Label(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All of a StoredAnswer but the answer. `epoch` is the newest invalidation that its writer knew of."""

    stored_at: float
    fresh_for: float
    stale_for: float
    tenant: str
    model: str
    labels: dict[str, str]
    epoch: int = 0

    @classmethod
    def of(cls, answer: StoredAnswer, epoch: int = 0) -> Label:
        """The label of an answer."""
        return cls(
            answer.stored_at,
            answer.fresh_for,
            answer.stale_for,
            answer.tenant,
            answer.model,
            dict(answer.labels),
            epoch,
        )

    @property
    def kept_for(self) -> float:
        """Seconds, from when it was stored, that it is of any use."""
        return self.fresh_for + self.stale_for

    def attach(self, answer: v1.CompleteResponse) -> StoredAnswer:
        """The whole again."""
        return StoredAnswer(
            answer, self.stored_at, self.fresh_for, self.stale_for, self.tenant, self.model, self.labels
        )


def fits(selector: v1.InvalidateCacheRequest, key: str, label: Label) -> bool:
    """Whether an answer is among those selected: it fits everything that is set, and something is."""
    if selector.key and selector.key != key:
        return False
    if selector.model and selector.model != label.model:
        return False
    if selector.tenant and selector.tenant != label.tenant:
        return False
    if any(label.labels.get(name) != value for name, value in selector.labels.items()):
        return False
    return bool(selector.all or selector.key or selector.model or selector.tenant or selector.labels)
