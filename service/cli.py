"""The commands of the online side. Heavy imports happen inside them, so that `tandem --help` is quick."""

import gc
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import TandemError

if TYPE_CHECKING:
    from service.engine import Engine
    from service.settings import Settings

SWITCH_INTERVAL_S = 0.0005
GARBAGE = 20_000
"""Objects that requests leave alive before the collector looks at them; by default it does several times a request."""
BACKLOG = 2048  # as uvicorn's


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command(hidden=True)(settings_docs)


def serve(
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle, or of its numbered versions.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Serve a bundle over HTTP. Every other setting is an environment variable: see docs/settings.md."""
    from service import logs

    settings = _settings(bundle=bundle, host=host, port=port)
    logs.configure(settings.log_level)
    _run(settings)


def settings_docs() -> None:
    """Print docs/settings.md."""
    from service.settings import render_docs

    print(render_docs(), end="")


def _settings(**given: Any) -> "Settings":
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise TandemError(f"the settings do not hold: {faults}. docs/settings.md lists them all.") from error


def _run(settings: "Settings") -> None:
    import uvicorn

    from models.bundle import newest_version
    from service.app import create_app
    from service.runtime import Runtime

    # A graph thread needs the interpreter for microseconds between two calls, and at Python's 5 ms waits long for it.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    newest_version(settings.bundle)  # a mistyped path is refused before anything starts
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    listener = _listen(settings.host, settings.port)
    server = uvicorn.Server(config)
    runtime: Runtime = app.state.runtime

    def loaded(engine: "Engine") -> None:
        gc.collect()
        gc.freeze()  # what has been loaded stays, and need not be looked through again and again
        gc.set_threshold(GARBAGE)
        _announce(engine, settings.host, listener.getsockname()[1])

    runtime.on_loaded = loaded
    runtime.on_failure = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[listener])
    if runtime.failure is not None:
        raise runtime.failure


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; uvicorn's own way out of a port in use is an exit without a word on what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise TandemError(f"port {port} of {host} must be free to listen on: {error}. Pass another --port.") from error


def _announce(engine: "Engine", host: str, port: int) -> None:
    manifest = engine.bundle.manifest
    example = f'\'{{"history": ["{engine.bundle.catalogue.item_id(1)}"]}}\''
    print(
        f"Serving {engine.bundle.identity} ({manifest.items} items; {', '.join(manifest.graphs)}). Try: "
        f"curl -s http://{host}:{port}/v1/recommend -H 'content-type: application/json' -d {example}",
        flush=True,
    )
