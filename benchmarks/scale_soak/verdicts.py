"""What an answer is worth: right, or which promise it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.scale_out.exchanges import Answer
from benchmarks.scale_soak.catalogue import essence, is_close

# What may happen to a request, and what may not. "refused": 429 or 503 with Retry-After. "late": 504 past its deadline.
ALLOWED = ("right", "close", "refused", "late", "left")
FORBIDDEN = ("wrong", "lost", "doubled", "failed", "early", "impolite")
EARLY_S = 0.05  # clocks of two processes


@dataclass(frozen=True, slots=True)
class Expected:
    """What a service without load and faults answered."""

    status: int
    essence: Any


def verdict(answer: Answer, expected: Expected, deadline_s: float) -> str:
    """One of ALLOWED or FORBIDDEN. deadline_s: of the request, after which 504 is right."""
    if answer.status == 0:
        return "lost"
    if answer.surplus:
        return "doubled"
    if answer.status == expected.status:
        return _compared(answer, expected)
    if answer.status in (429, 503):
        return "refused" if "retry-after" in answer.headers else "impolite"
    if answer.status == 504:
        return "late" if answer.seconds >= deadline_s - EARLY_S else "early"
    return "failed" if answer.status >= 500 else "wrong"


def _compared(answer: Answer, expected: Expected) -> str:
    try:
        found = essence(answer.body)
    except ValueError:
        return "wrong"
    if found == expected.essence:
        return "right"
    return "close" if is_close(found, expected.essence) else "wrong"
