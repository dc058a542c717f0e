"""text_encoder.safetensors, text_lists.json and the byte-pair table: tokens, prompts and text embeddings."""

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from dynrefer.model.asked_words import AskedWords
from dynrefer.model.convert.assets import text_tokenizer
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.vocabulary import OFFICIAL_PROMPTS, Attribute, Vocabulary, embed_texts, embed_vocabulary
from dynrefer.model.vocabulary_entries import read_vocabulary
from tests.goldens_reader import attribute_places, attribute_prompts, prompt_rows
from tests.parity import stages
from tests.parity.conftest import Comparison, Goldens
from tests.parity.stages import TIGHT


@pytest.fixture(scope="module")
def tokenizer(recorded: Goldens) -> PreTrainedTokenizerBase:
    """The text tower's tokenizer, from the official byte-pair table."""
    return text_tokenizer(recorded.folder, recorded.config)


def vocabulary_of(recorded: Goldens) -> Vocabulary:
    """The recorded vocabulary; what an attribute's template is shows in its recorded prompts."""
    texts = recorded.texts
    attributes = [
        Attribute.from_benchmark(name, "has" if any("  has " in prompt for prompt in some) else "is")
        for name, some in zip(texts["attribute_names"], attribute_prompts(texts), strict=True)
    ]
    return Vocabulary(tuple(texts["tag_list"]), tuple(attributes), tuple(texts["ov_classes"]))


def test_prompts_are_the_recorded_ones(recorded: Goldens) -> None:
    vocabulary, texts = vocabulary_of(recorded), recorded.texts
    assert list(vocabulary.attribute_prompts) == texts["attribute_texts"]
    assert list(vocabulary.category_prompts) == texts["ov_texts"]
    owner = vocabulary.attribute_owner
    counts = [texts["att_len_synonyms"][place] for place in attribute_places(texts)]
    assert [owner.count(index) for index in range(len(vocabulary.attributes))] == counts
    print(f"\nprompts: {len(owner)} of attributes and {len(vocabulary.category_prompts)} of categories are identical")


def test_prompts_of_a_request_are_the_recorded_ones(recorded: Goldens) -> None:
    """The recorded names, as a client's words, are given to the text tower as the official code gives its own."""
    own, texts = vocabulary_of(recorded), recorded.texts
    given = {"categories": texts["ov_classes"], "attributes": texts["attribute_names"], "tags": texts["tag_list"]}
    asked = AskedWords(own, OFFICIAL_PROMPTS).of(read_vocabulary(given))
    assert list(asked["categories"].prompts) == texts["ov_texts"]
    assert list(asked["attributes"].prompts) == texts["attribute_texts"]
    assert list(asked["tags"].prompts) == texts["tag_list"]


def test_templates_by_synonym_are_the_recorded_ones(recorded: Goldens) -> None:
    found: dict[str, list[str]] = {}
    for attribute in vocabulary_of(recorded).attributes:
        synonyms = [synonym for synonym in attribute.synonyms for _ in range(2)]
        for synonym, prompt in zip(synonyms, attribute.prompts, strict=True):
            found.setdefault(synonym, []).append(prompt)
    assert found == recorded.texts["syn2template"]


def test_tokens_are_the_recorded_ones(recorded: Goldens, tokenizer: PreTrainedTokenizerBase) -> None:
    theirs = recorded.embeddings["token_ids"]
    ours = torch.zeros_like(theirs)
    for row, text in enumerate(recorded.texts["texts"]):
        ids = tokenizer(text, truncation=True, max_length=theirs.shape[1])["input_ids"]
        ours[row, : len(ids)] = torch.tensor(ids)
    assert torch.equal(ours, theirs)


def test_long_texts_keep_their_end(recorded: Goldens, tokenizer: PreTrainedTokenizerBase) -> None:
    limit = recorded.embeddings["token_ids"].shape[1]
    ids = tokenizer("red " * (limit + 1), truncation=True, max_length=limit)["input_ids"]
    assert len(ids) == limit
    assert ids[-1] == tokenizer.eos_token_id == recorded.config.text_config.eos_token_id


def test_text_tower(network: DynReferModel, recorded: Goldens, compare: Comparison) -> None:
    for name, ours in stages.text(network, recorded).items():
        compare.tensor(name, ours, recorded.embeddings[name], TIGHT)


def test_embeddings_of_the_vocabulary(
    network: DynReferModel, recorded: Goldens, tokenizer: PreTrainedTokenizerBase, compare: Comparison
) -> None:
    ours, theirs = embed_vocabulary(network, tokenizer, vocabulary_of(recorded)), recorded.embeddings
    compare.tensor("clip_embeds", ours.tags, theirs["clip_embeds"], TIGHT)
    compare.tensor("att_embeds", ours.attributes, theirs["att_embeds"][prompt_rows(recorded.texts)], TIGHT)
    compare.tensor("ov_embeds", ours.categories, theirs["ov_embeds"], TIGHT)
    texts = embed_texts(network.text, tokenizer, recorded.texts["texts"])
    compare.tensor("text_embeds", texts, theirs["text_embeds"], TIGHT)
    assert set(theirs) == {"token_ids", "clip_embeds", "att_embeds", "ov_embeds", "text_embeds"}
