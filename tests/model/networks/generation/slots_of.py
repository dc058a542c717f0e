"""Slots for a language decoder, with settings of the test's own."""

from typing import Any

from dynrefer.model.networks.dynrefer.language import LanguageDecoder
from dynrefer.model.networks.generation.beam_search import SearchSettings
from dynrefer.model.networks.generation.slots import DecodingSlots
from dynrefer.model.networks.kernels.graphs import NoGraphs


def slots_of(
    language: LanguageDecoder, settings: dict[str, Any], *, capacity: int, encoder_length: int = 16, **more: Any
) -> DecodingSlots:
    """As `LanguageDecoder.open_slots`, with `settings` in place of the configuration's where given."""
    return DecodingSlots(
        language.model,
        capacity=capacity,
        encoder_length=encoder_length,
        settings=SearchSettings(**(language.generation | settings)),
        special=language.special_tokens,
        **({"graphs": NoGraphs()} | more),
    )
