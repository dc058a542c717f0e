"""Probes, metrics and the model's card."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from dynrefer.service.api.dependencies import CurrentEngine, CurrentMetrics, CurrentSettings
from dynrefer.service.api.openapi import PROBLEMS, pick
from dynrefer.service.api.responses import model_answer, model_entry
from dynrefer.service.api.schemas import ModelList, Status

router = APIRouter(tags=["operations"])
metrics_router = APIRouter(tags=["operations"])  # a router of its own: the metrics may have their own port


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Status:
    """200 as long as the process answers at all. Needs no key."""
    return Status(status="alive")


@router.get("/readyz", summary="Can the service describe regions?", responses=pick(PROBLEMS, 503))
async def readyz(engine: CurrentEngine) -> Status:
    """200 when the model is loaded and warmed up, its device answers and nothing shuts down. Needs no key."""
    engine.require_ready()
    return Status(status="ready")


@router.get("/health", summary="The same as /readyz", responses=pick(PROBLEMS, 503))
async def health(engine: CurrentEngine) -> Status:
    """Under the path that most platforms and programs ask without being told. Needs no key."""
    return await readyz(engine)


@metrics_router.get(
    "/metrics",
    summary="Metrics, in the Prometheus text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **pick(PROBLEMS, 401)},
)
async def metrics(metrics: CurrentMetrics) -> Response:
    """Counts and durations of requests, stages, batches and the queue."""
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models", summary="The loaded model", responses=pick(PROBLEMS, 401, 503))
async def models(engine: CurrentEngine, settings: CurrentSettings) -> ModelList:
    """The model's name, size, views, vocabulary, priors and origin, and the limits of a request. `object` and `data`
    are the same list in OpenAI's form."""
    card = engine.card
    return ModelList(models=[model_answer(card, settings)], data=[model_entry(card, engine.loaded_at)])
