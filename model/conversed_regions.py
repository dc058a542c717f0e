"""The regions of a conversation on their image: which cannot be placed there, and those that can, clipped. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConversationError, QueryError
from dynrefer.model.geometry import region_box
from dynrefer.model.preparation import check_found

if TYPE_CHECKING:
    from dynrefer.model.conversation import Conversation
    from dynrefer.model.geometry import ImageSize


def misplaced_regions(conversations: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
    """The first fault of each conversation that has one, with the conversation's `index`: a `ConversationError` that
    names the region. size: (width, height) of the upright image."""
    errors: list[QueryError] = []
    for index, conversation in enumerate(conversations):
        for place, region in enumerate(conversation.regions):
            try:
                check_found(region.query, size)
                region_box(region.query.box).clip(size)
            except QueryError as error:
                errors.append(ConversationError(str(error), f"regions/{place}"))
                errors[-1].index = index
                break
    return errors


def on_image(conversation: Conversation, size: ImageSize) -> Conversation:
    """The same with its regions' boxes clipped to the image. Raises `BoxError` for one that lies outside."""
    regions = (
        replace(each, query=replace(each.query, box=region_box(each.query.box).clip(size).corners))
        for each in conversation.regions
    )
    return replace(conversation, regions=tuple(regions))
