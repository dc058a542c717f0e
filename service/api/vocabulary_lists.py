"""GET /v1/vocabularies: the schemas, and named vocabularies in them."""

from typing import Any

from pydantic import BaseModel, Field

from dynrefer.model import VOCABULARY_MEMBERS, ModelCard, NamedVocabulary, written_words


class VocabularySummary(BaseModel):
    """A vocabulary that a request may name."""

    name: str
    description: str
    sizes: dict[str, int] = Field(description="list (categories, attributes, tags) to its number of words")
    languages: list[str] = Field(description="in which there are translations, beside the language of the words")
    licence: str | None = Field(None, description="of the list, where it has one of its own")


class VocabularyList(BaseModel):
    """All vocabularies that this server knows."""

    vocabularies: list[VocabularySummary]


class VocabularyEntry(BaseModel):
    """A word as a request would write it, without what it does not have."""

    name: str
    synonyms: list[str] | None = None
    template: str | None = Field(None, description="of an attribute: is or has")
    translations: dict[str, str] | None = Field(None, description="language to word")
    threshold: float | None = Field(None, description="least score, unless the request sets one for the task")


class CalibrationOut(BaseModel):
    """probability = sigmoid (of categories softmax, or exp) of scale * score + bias."""

    scale: float
    bias: float


class VocabularyOut(VocabularySummary):
    """A vocabulary with all its words."""

    categories: list[VocabularyEntry] | None = None
    attributes: list[VocabularyEntry] | None = None
    tags: list[VocabularyEntry] | None = None
    calibration: dict[str, CalibrationOut] | None = Field(None, description="as fitted, where it was")


def vocabulary_summary(found: NamedVocabulary, card: ModelCard) -> dict[str, Any]:
    """The members of `VocabularySummary`. card: whose words the model's own vocabulary holds."""
    own = found.words.is_own
    return {
        "name": found.name,
        "description": found.description,
        "sizes": {task: len(card.vocabulary.get(task, ())) for task in VOCABULARY_MEMBERS} if own else found.sizes,
        "languages": sorted(card.translations.languages) if own else list(found.languages),
        "licence": found.licence or None,
    }


def vocabulary_list(found: list[NamedVocabulary], card: ModelCard) -> VocabularyList:
    """The answer of GET /v1/vocabularies."""
    return VocabularyList(vocabularies=[VocabularySummary(**vocabulary_summary(each, card)) for each in found])


def vocabulary_answer(found: NamedVocabulary, card: ModelCard) -> VocabularyOut:
    """The answer of GET /v1/vocabularies/{name}."""
    lists: dict[str, Any]
    if found.words.is_own:
        lists = {task: _own_entries(task, card) for task in VOCABULARY_MEMBERS}
    else:
        words = {task: found.words.words(task) for task in VOCABULARY_MEMBERS}
        lists = {task: written_words(listed) for task, listed in words.items() if listed is not None}
    calibration = {task: {"scale": scale, "bias": bias} for task, scale, bias in found.words.calibration}
    head = vocabulary_summary(found, card)
    return VocabularyOut.model_validate({**head, **lists, "calibration": calibration or None})


def _own_entries(task: str, card: ModelCard) -> list[dict[str, Any]]:
    names = card.vocabulary.get(task, ())
    found = {name: dict(sorted(card.translations.of(task, name).items())) for name in names}
    return [{"name": name, "translations": words or None} for name, words in found.items()]
