"""What is asked of an image, prepared in the process that decodes it: regions as they were pointed at -> a turn.

Plain records and functions of this module, which pickle: worker processes load it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dynrefer.model import NamedRegion

if TYPE_CHECKING:
    from dynrefer.model import (
        Conversation,
        ConverserSpec,
        ConverseTurn,
        ImageInfo,
        Pixels,
        Preparation,
        QueryError,
        RegionQuery,
    )


@dataclass(frozen=True, slots=True)
class TurnPreparation:
    """A `Preparation` whose queries are conversations and whose items are turns.

    regions: the describer's, which says of a conversation's regions what it says of any. converser: prepares the turn.
    """

    regions: Preparation[Any]
    converser: ConverserSpec

    def invalid(self, queries: Sequence[Conversation], size: tuple[int, int]) -> list[QueryError]:
        """What is wrong with the regions, with the `index` of each; with none, what the converser cannot be asked."""
        of_regions = [
            error for asked in queries for error in self.regions.invalid([named.query for named in asked.regions], size)
        ]
        return of_regions or self.converser.invalid(queries, size)

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """See `ConverserSpec`."""
        return self.converser.prepare_each(image, queries)


def conversations(
    queries: Callable[[ImageInfo], Sequence[RegionQuery]], ids: Sequence[str], asked: Conversation, info: ImageInfo
) -> list[Conversation]:
    """The one conversation about an image. queries: what is known of it -> its regions, in the order of their `ids`;
    those with `highlight` have their masks by it, which is all that it means here."""
    given = (replace(query, highlight=False) for query in queries(info))
    regions = (NamedRegion(name, query) for name, query in zip(ids, given, strict=True))
    return [replace(asked, regions=tuple(regions))]
