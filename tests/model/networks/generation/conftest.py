"""A language decoder whose regions end early and late, and prompts for it."""

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.language import LanguageDecoder
from dynrefer.model.networks.dynrefer.model import DynReferModel
from tests.model.networks.conftest import SMALL, perturbed, small_config

ROWS = 9

Prompt = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module", params=[96, 1024], ids=["few words", "many words"])
def language(request: pytest.FixtureRequest) -> LanguageDecoder:
    """Random weights, with an end token that comes soon in some rows and late in others."""
    config = small_config(language_config={**SMALL["language_config"], "vocab_size": request.param})
    torch.manual_seed(0)
    decoder = perturbed(DynReferModel(config), 0.2).language
    with torch.no_grad():
        decoder.model.lm_head.weight.mul_(3.0)
        decoder.model.lm_head.weight[1].mul_(3.0)
    return decoder


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    """Regions that differ, with control words of different lengths."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 90, (ROWS, 5), generator=generator)
    mask = (torch.arange(5) < torch.randint(1, 6, (ROWS, 1), generator=generator)).long()
    return 4 * torch.randn(ROWS, 4, 32, generator=generator), ids * mask, mask
