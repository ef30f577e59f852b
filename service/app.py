"""The ASGI application: `create_app` joins the runtime, the routes, the error table and the middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service import api, errors
from service.direct import Direct
from service.middleware import Frame, Intake
from service.runtime import Runtime
from service.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application with its runtime in `app.state.runtime`; its life starts and ends with the ASGI lifespan."""
    runtime = Runtime(settings or Settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        yield
        await runtime.stop()

    app = FastAPI(
        title="Tandem",
        summary="Recommendations from a model that memorizes and one that generalizes.",
        version=metadata.version("tandem-recommender"),
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.runtime = runtime
    app.include_router(api.router)
    errors.install(app)
    (hot,) = (route for route in api.router.routes if isinstance(route, APIRoute) and route.endpoint is api.recommend)
    app.add_middleware(Direct, route=hot, runtime=runtime)
    dropped = runtime.metrics.rejected.labels("client_gone")
    app.add_middleware(Intake, max_body_bytes=runtime.settings.max_body_bytes, on_client_gone=dropped.inc)
    app.add_middleware(Frame, metrics=runtime.metrics)  # added last: the outermost
    return app
