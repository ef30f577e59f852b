"""The routes. Each one finds its parts in the runtime and leaves the work to them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from models.errors import RequestError, TandemError
from service import errors, schemas
from service.errors import Kind, Problem
from service.metrics import Stages
from service.runtime import Runtime
from service.user_histories import UserEvent

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter()


async def runtime_of(request: Request) -> Runtime:
    """The runtime of the application that the request came to; `async`, as FastAPI runs plain functions on threads."""
    runtime: Runtime = request.app.state.runtime
    return runtime


Run = Annotated[Runtime, Depends(runtime_of)]


def problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Declare the problems that a route can answer with."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        kind.status: {"description": kind.title, "content": {errors.PROBLEM_TYPE: schema}}
        for kind in (*kinds, errors.INTERNAL)
    }


BODY = (errors.MALFORMED, errors.TOO_LARGE, errors.INVALID)
WORK = (errors.OVERLOADED, errors.NOT_READY, errors.DEADLINE)


@router.post("/v1/recommend", responses=problems(*BODY, *WORK))
async def recommend(body: schemas.RecommendRequest, request: Request, runtime: Run) -> schemas.RecommendResponse:
    """Recommend the next items of one user."""
    state = request.scope["state"]
    response = await runtime.recommender.recommend(body, state["request_id"], state["stages"])
    state["variant"] = response.model.variant
    return response


@router.post("/v1/recommend:batch", responses=problems(*BODY, errors.NOT_READY))
async def recommend_batch(body: schemas.BatchRequest, request: Request, runtime: Run) -> schemas.BatchResponse:
    """Answer several requests; each gets a response or a problem of its own, in order."""
    most = runtime.settings.max_batch
    if len(body.requests) > most:
        raise RequestError(f"requests must hold at most {most} entries, got {len(body.requests)}; send several batches")
    runtime.recommender  # noqa: B018 - a service that is not ready refuses the batch as a whole
    request_id = errors.request_id_of(request)
    answers = (_entry(runtime, entry, f"{request_id}.{place}") for place, entry in enumerate(body.requests))
    return schemas.BatchResponse(request_id=request_id, responses=await asyncio.gather(*answers))


async def _entry(runtime: Runtime, entry: Any, request_id: str) -> schemas.RecommendResponse | Problem:
    try:
        request = schemas.RecommendRequest.model_validate(entry)
        return await runtime.recommender.recommend(request, request_id, Stages())
    except ValidationError as error:
        return errors.invalid(error.errors(), request_id)
    except TandemError as error:
        return errors.problem_of(error, request_id)


@router.post("/v1/events", responses=problems(*BODY, errors.STORE))
async def events(body: schemas.EventsRequest, request: Request, runtime: Run) -> schemas.EventsResponse:
    """Append to the histories of users, in the order given, and add the transitions to the index."""
    most = runtime.settings.max_events
    if len(body.events) > most:
        raise RequestError(f"events must hold at most {most} entries, got {len(body.events)}; send several calls")
    index_of = runtime.recommender.engine.bundle.catalogue.index_of
    stored = await runtime.events.store(
        [UserEvent(event.user_id, event.item_id, event.event_id or "") for event in body.events]
    )
    runtime.metrics.events.inc(stored.new)
    return schemas.EventsResponse(
        request_id=errors.request_id_of(request),
        accepted=len(body.events),
        repeated=len(body.events) - stored.new,
        degraded=[] if stored.indexed else ["transition_index"],
        unknown_item_ids=sorted({event.item_id for event in body.events if index_of(event.item_id) is None}),
    )


@router.get("/v1/models", responses=problems(errors.NOT_READY))
async def models(runtime: Run) -> schemas.ModelsResponse:
    """Describe the bundle that answers."""
    engine, settings = runtime.recommender.engine, runtime.settings
    manifest = engine.bundle.manifest
    return schemas.ModelsResponse(
        **manifest.model_dump(include={"name", "version", "created", "items", "levels", "codebook_size", "metrics"}),
        ensembles=manifest.ensembles,
        variants=[variant.name for variant in engine.variants.values()],
        experiment=settings.experiment_weights,
        graphs={
            name: schemas.GraphInfo(
                **entry.model_dump(exclude={"file", "int8"}),
                provider=engine.graphs.provider(name),
                precision=engine.graphs.choices[name].precision,
                max_batch=settings.graph_batch.get(name, 1),
            )
            for name, entry in manifest.graphs.items()
        },
    )


@router.get("/livez", responses=problems())
async def livez() -> schemas.Liveness:
    """Whether the event loop runs."""
    return schemas.Liveness()


@router.get("/readyz", responses=problems(errors.NOT_READY))
async def readyz(runtime: Run) -> schemas.Readiness:
    """Whether a bundle is loaded, tested and warm. Without Redis the service is ready, and its answers are degraded."""
    recommender = runtime.recommender
    return schemas.Readiness(
        bundle=recommender.engine.bundle.identity,
        redis="ok" if await runtime.redis_ok() else "unavailable",
        transition_index="loaded" if recommender.cache.loaded else "loading",
    )


@router.get("/metrics", response_class=Response, responses=problems() | {200: {"content": {EXPOSITION: {}}}})
async def metrics(runtime: Run) -> Response:
    """Metrics for Prometheus."""
    return Response(runtime.metrics.render(), media_type=EXPOSITION)
