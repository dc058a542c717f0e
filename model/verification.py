"""Whether the region model agrees with the boxes of an answer: queries about them, and verdicts. No torch.

A box that the converser has verified itself (`verified` is not None) is not looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynrefer.model.conversation import Reply
    from dynrefer.model.types import RegionDescription, RegionQuery


def queries_to_verify(reply: Reply) -> list[RegionQuery]:
    """What is to be asked about the boxes of an answer; empty where there is nothing to verify."""
    return []


def with_verdicts(reply: Reply, described: Sequence[RegionDescription]) -> Reply:
    """The answer with its verdicts. described: the descriptions of `queries_to_verify`'s queries, in order."""
    return reply
