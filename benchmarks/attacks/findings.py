"""What an attack found: one line and its figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Figure = float | int | str | bool | None | list[int] | list[str]

# Statuses that a hostile image may be answered with; anything else, and no answer (0), is a fault.
ALLOWED_STATUSES = frozenset({200, 413, 415, 422, 429, 503, 504})


@dataclass(frozen=True)
class Finding:
    """One case of an attack. text: its figures in words. figures: the same, for the results file."""

    case: str
    ok: bool
    text: str
    figures: dict[str, Figure] = field(default_factory=dict)


def unexpected(statuses: Iterable[int], allowed: Iterable[int] = ALLOWED_STATUSES) -> list[int]:
    """The statuses that are not allowed, in order of number."""
    return sorted(set(statuses) - set(allowed))
