"""The words of the drawn world: the vocabulary that the model answers with, and its two tokenizers."""

from __future__ import annotations

from typing import Any

from transformers import CLIPTokenizer, T5Tokenizer

from model.training.world import World
from model.vocabulary import Attribute, Vocabulary

_VOCABULARY_SIZE = 1024
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789-',.|"


def world_vocabulary(world: World) -> Vocabulary:
    """Tags, attributes and categories of the world, as the model's own vocabulary."""
    attributes = tuple(Attribute(a.name, a.type, a.synonyms, a.template) for a in world.attributes)
    return Vocabulary(tags=world.tags, attributes=attributes, categories=tuple(c.name for c in world.categories))


def build_tokenizers(world: World) -> tuple[Any, Any]:
    """Text tower: CLIP's byte-pair encoding, which spells any word. Language model: T5's pieces, here one per word of the world
    (short captions are fast captions) and single characters for all others.

    Both follow from the world's words alone, so they are the same on every machine.
    """
    phrases = _phrases(world)
    text = CLIPTokenizer().train_new_from_iterator(phrases * 20, vocab_size=_VOCABULARY_SIZE)
    text.model_max_length = 32
    words = sorted({word for phrase in phrases for word in phrase.split()} - {","})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581" + word, -4.0) for word in words] + [(word, -5.0) for word in words if len(word) > 1]
    pieces += [(character, -12.0) for character in ("\u2581", *_CHARACTERS)]
    language = T5Tokenizer(vocab=pieces, extra_ids=0)
    language.model_max_length = 512
    return text, language


def _phrases(world: World) -> list[str]:
    """Every phrase that a caption, a prompt or a list of control words is made of."""
    vocabulary = world_vocabulary(world)
    phrases = [*world.tags, *vocabulary.attribute_prompts, *vocabulary.category_prompts]
    for category in world.categories:
        phrases += [f"{category.article} {category.name}", *(f"the {word}" for word in category.synonyms)]
    phrases += [f"{relation} another object {kind.phrase}" for relation in world.relations for kind in world.scene_kinds]
    return [*phrases, "the object is an a pair of", "to the left of another", " ".join(_CHARACTERS)]
