"""A request's `vocabulary`, as given -> `RequestVocabulary`, or what is wrong with it and where."""

from typing import Any

from dynrefer.model import RequestVocabulary, ResolveVocabulary, VocabularyError, VocabularyLimits, read_vocabulary
from dynrefer.service.errors import FieldError
from dynrefer.service.settings import Settings


def read_own_words(
    given: Any, settings: Settings, resolve: ResolveVocabulary
) -> tuple[RequestVocabulary | None, list[FieldError]]:
    """The words; None for the model's own. given: the parsed JSON. resolve: name -> a named vocabulary, or raises
    `UnknownVocabularyError`."""
    if given is None:
        return None, []
    limits = VocabularyLimits(settings.max_vocabulary_words, settings.max_vocabulary_chars)
    try:
        found = read_vocabulary(given, resolve, limits)
        return None if found.is_own else found, []
    except VocabularyError as error:
        return None, [FieldError(f"/vocabulary{flaw.pointer}", flaw.sentence) for flaw in error.flaws]
