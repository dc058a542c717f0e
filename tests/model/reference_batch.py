"""The reference path through the network, one step after the other: what `dynrefer.model.batch` is compared with.

Every view is encoded, even where two are equal; texts are projected in every batch; synonyms are gathered attribute by
attribute; captions come from transformers' own search; linear layers are torch's own. Nothing is kept.
"""

from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import torch

from dynrefer.model.batch import RawOutputs
from dynrefer.model.cache import FeatureCache
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.identification import identify
from dynrefer.model.loading import LoadedModel
from dynrefer.model.preparation import RegionInput
from dynrefer.model.tasks.caption import GeneratedCaption, control_words
from dynrefer.model.tasks.tags import TagsTask
from dynrefer.model.types import Task
from tests.model.networks.generation.reference_generate import reference_generate


@torch.no_grad()
@patch("dynrefer.model.networks.kernels.onednn.available", lambda: False)
def reference_batch(loaded: LoadedModel, inputs: Sequence[RegionInput]) -> list[RawOutputs]:
    """The outputs of every task for every input, whatever tasks it requests; captions only where requested."""
    network, texts = loaded.network, loaded.texts
    images = torch.from_numpy(np.stack([each.views.images for each in inputs])).to(loaded.device)
    boxes = torch.from_numpy(np.stack([each.views.boxes for each in inputs])).to(loaded.device)
    output = network(images, boxes, texts.tags, texts.attributes)
    categories = network.region_text_decoder(output.representation, texts.categories).float().cpu().numpy()
    identities = identify(loaded, output.representation, inputs, FeatureCache(0))
    tags = output.tag_logits.float().cpu().numpy()
    tags = np.stack([TagsTask().naming(loaded, row, known) for row, known in zip(tags, identities, strict=True)])
    prompts = output.region_text_logits.float().cpu()
    owner = torch.tensor(loaded.vocabulary.attribute_owner)
    count = len(loaded.vocabulary.attributes)
    attributes = torch.stack([prompts[:, owner == index].amax(1) for index in range(count)], dim=1).numpy()
    captioned = [row for row, each in enumerate(inputs) if Task.CAPTION in each.tasks]
    captions = _captions(loaded, output.representation, inputs, captioned, tags, identities)
    outputs: list[RawOutputs] = []
    for i in range(len(inputs)):
        found = {Task.TAGS: tags[i], Task.ATTRIBUTES: attributes[i], Task.CATEGORIES: categories[i]}
        outputs.append(RawOutputs(found))
        if i in captions:
            outputs[i][Task.CAPTION] = captions[i]
    return outputs


def _captions(
    loaded: LoadedModel,
    region: torch.Tensor,
    inputs: Sequence[RegionInput],
    rows: list[int],
    tags: np.ndarray,
    identities: Sequence[Identity | None],
) -> dict[int, GeneratedCaption]:
    if not rows:
        return {}
    words = [control_words(loaded, tags[row], inputs[row].controls, identities[row]) for row in rows]
    limit = loaded.network.config.max_control_tokens
    ids = loaded.language_tokenizer(words, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    ids = ids.to(loaded.device)
    found = reference_generate(loaded.network.language, region[rows], ids.input_ids, ids.attention_mask)
    columns = (found.tokens.tolist(), found.score.tolist(), found.logprob_sum.tolist(), found.length.tolist())
    return {
        row: GeneratedCaption(tuple(tokens), score, total, length)
        for row, tokens, score, total, length in zip(rows, *columns, strict=True)
    }
