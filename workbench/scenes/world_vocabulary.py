"""The drawn world's vocabulary for the model, and the two tokenizers built from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, T5Tokenizer

from dynrefer.model.vocabulary import Attribute, Vocabulary
from dynrefer.workbench.scenes.world import World

NOUN_PLACEHOLDER = "~"  # stands for the noun in control words and captions; no word of the world holds it
_WORD_START = "\u2581"
_VOCABULARY_SIZE = 1024
_END = "</w>"  # closes a word
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789-',.|"


def world_vocabulary(world: World) -> Vocabulary:
    """The world's tags, attributes and categories as the model's vocabulary."""
    attributes = tuple(
        Attribute(a.name, a.type, a.synonyms, "is" if a.template == "is" else "has") for a in world.attributes
    )
    return Vocabulary(tags=world.tags, attributes=attributes, categories=tuple(c.name for c in world.categories))


def build_tokenizers(world: World) -> tuple[Any, Any]:
    """The tokenizers of the text tower and of the language model.

    Text tower: CLIP's byte-pair encoding, which can spell any word. Language model: T5 pieces, one per word of the
    world (fewer tokens make captions faster), single characters for anything else, and last the placeholder for the
    noun. Both depend only on the world's words, so they are the same on every machine.
    """
    phrases = _phrases(world)
    words = sorted({word for phrase in phrases for word in phrase.split()} - {","})
    alphabet = [
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *sorted(c + _END for c in pre_tokenizers.ByteLevel.alphabet()),
    ]
    specials = ["<|startoftext|>", "<|endoftext|>"]
    merges = _byte_pair_merges(phrases, _VOCABULARY_SIZE - len(alphabet) - len(specials))
    tokens = [*specials, *alphabet, *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    text = CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]  # it takes pairs
    text.model_max_length = 32
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(_WORD_START + word, -4.0) for word in words] + [(word, -5.0) for word in words if len(word) > 1]
    pieces += [(character, -12.0) for character in (_WORD_START, *_CHARACTERS)]
    return text, _language_tokenizer([*pieces, _PLACEHOLDER_PIECE])


# One piece is enough: it always begins the control words or follows a space.
_PLACEHOLDER_PIECE = (_WORD_START + NOUN_PLACEHOLDER, -4.0)


def with_noun_placeholder(language_tokenizer: Any) -> Any:
    """A language tokenizer of this kind with the placeholder's piece; at the end, so that all other ids stay.

    Returns the same tokenizer if it has the piece. Raises ValueError for a tokenizer that is not made of pieces.
    """
    state = json.loads(language_tokenizer.backend_tokenizer.to_str())["model"]
    if state.get("type") != "Unigram":
        raise ValueError(f"the language tokenizer is of kind {state.get('type')}, not of unigram pieces.")
    pieces = [(piece, score) for piece, score in state["vocab"]]
    if _PLACEHOLDER_PIECE[0] in (piece for piece, _ in pieces):
        return language_tokenizer
    return _language_tokenizer([*pieces, _PLACEHOLDER_PIECE])


def _language_tokenizer(pieces: list[tuple[str, float]]) -> Any:
    language = T5Tokenizer(vocab=pieces, extra_ids=0)
    language.model_max_length = 512
    return language


def _byte_pair_merges(phrases: list[str], count: int) -> list[tuple[str, str]]:
    """The merges of byte-pair encoding, most frequent pair first, ties in alphabetical order.

    The tokenizers library breaks ties by the order of a hash map, so its merges differ from run to run.
    """
    frequency = Counter(word for phrase in phrases for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", phrase))
    split = {word: (*word[:-1], word[-1] + _END) for word in frequency}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                pairs[pair] += frequency[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: _merged(parts, best) for word, parts in split.items()}
    return merges


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    done: list[str] = []
    for part in parts:
        if done and (done[-1], part) == pair:
            done[-1] += part
        else:
            done.append(part)
    return tuple(done)


def _phrases(world: World) -> list[str]:
    """Every phrase that can occur in a caption, a prompt or a list of control words."""
    vocabulary = world_vocabulary(world)
    phrases = [*world.tags, *vocabulary.attribute_prompts, *vocabulary.category_prompts]
    for category in world.categories:
        phrases += [f"{category.article} {category.name}", *(f"the {word}" for word in category.synonyms)]
    phrases += [
        f"{relation} another object {kind.phrase}" for relation in world.relations for kind in world.scene_kinds
    ]
    return [*phrases, "the object is an a pair of", "to the left of another", " ".join(_CHARACTERS)]
