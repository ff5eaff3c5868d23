"""Who signs what only its maker understands, and whether it may go to somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider import v1


def signer(format_: str, base_url: str) -> str:
    """The name under which a provider signs: vendors that share a wire format refuse each other's signatures,
    while several keys for one address do not matter to it.
    """
    return f"{format_}:{base_url.partition('://')[2]}"


def is_foreign(part: v1.Part, own: str) -> bool:
    """Whether somebody else has signed a part; one of an unknown maker counts as one's own."""
    return part.signed_by not in ("", own)
