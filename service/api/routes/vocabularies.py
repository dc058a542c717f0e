"""GET /v1/vocabularies: the vocabularies that requests may name."""

from functools import partial

from fastapi import APIRouter, Response

from dynrefer.service.api.dependencies import CurrentEngine, CurrentVocabularies
from dynrefer.service.api.openapi import PROBLEMS, pick
from dynrefer.service.api.vocabulary_lists import VocabularyList, VocabularyOut, vocabulary_answer, vocabulary_list
from dynrefer.service.errors import NotFoundError
from dynrefer.service.inputs.json_text import printable

router = APIRouter(tags=["vocabularies"])


@router.get(
    "/v1/vocabularies",
    summary="The vocabularies that requests may name",
    response_model=VocabularyList,
    response_model_exclude_none=True,
    responses=pick(PROBLEMS, 401, 503),
)
async def vocabularies(engine: CurrentEngine, known: CurrentVocabularies) -> Response:
    """Those that ship and those of the server's settings: name, description, sizes and languages."""
    card = engine.card

    def write() -> bytes:
        found = [each for name in known.names if (each := known.get(name)) is not None]
        return vocabulary_list(found, card).model_dump_json(exclude_none=True).encode()

    return Response(await engine.run_in_cpu_pool(write), media_type="application/json")


@router.get(
    "/v1/vocabularies/{name}",
    summary="A vocabulary, with all its words",
    response_model=VocabularyOut,
    response_model_exclude_none=True,
    responses=pick(PROBLEMS, 401, 404, 503),
)
async def vocabulary(name: str, engine: CurrentEngine, known: CurrentVocabularies) -> Response:
    """Its words, with synonyms, translations and thresholds where they have them."""
    found = await engine.run_in_cpu_pool(partial(known.get, name))
    if found is None:
        near = known.nearest(name)
        hint = f" Did you mean '{near}'?" if near else f" This server knows {', '.join(known.names[:20])}."
        raise NotFoundError(f"There is no vocabulary '{printable(name[:64])}'.{hint}")
    card = engine.card

    def write() -> bytes:
        return vocabulary_answer(found, card).model_dump_json(exclude_none=True).encode()

    return Response(await engine.run_in_cpu_pool(write), media_type="application/json")
