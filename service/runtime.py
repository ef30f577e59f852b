"""What one service process is made of, and the order in which it comes up and goes down."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import numpy as np
import structlog

from models.errors import BundleError, TandemError
from service.engine import Engine, Lanes
from service.errors import NotReadyError, StoreUnavailableError
from service.index_changes import Changes
from service.index_rows import Layout
from service.live_events import LiveEvents
from service.live_transitions import LiveTransitions
from service.metrics import Metrics
from service.recommender import Recommender
from service.redis_link import RedisLink
from service.redis_server import RedisServer
from service.settings import Settings
from service.transition_cache import TransitionCache
from service.user_histories import UserHistories

UPKEEP_S = 1.0
_log = structlog.get_logger()


class Runtime:
    """Starts Redis and loads the bundle behind a port that is already open, so that liveness and readiness differ."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.failure: TandemError | None = None
        """Why there is nothing to serve."""
        self.on_loaded: Callable[[Engine], None] = lambda engine: None
        self.on_failure: Callable[[], None] = lambda: None
        self._redis: RedisServer | None = None
        self._link: RedisLink | None = None
        self._lanes: Lanes | None = None
        self._recommender: Recommender | None = None
        self._events: LiveEvents | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def recommender(self) -> Recommender:
        """What answers requests.

        Raises:
            NotReadyError: the bundle is still being loaded, or could not be.
        """
        if self._recommender is None:
            raise self._not_ready()
        return self._recommender

    @property
    def events(self) -> LiveEvents:
        """What stores events.

        Raises:
            NotReadyError: as with `recommender`.
        """
        if self._events is None:
            raise self._not_ready()
        return self._events

    def start(self) -> None:
        """Begin to load; call from the event loop in the main thread, which the embedded Redis is tied to."""
        self._life = asyncio.create_task(self._live())

    async def stop(self) -> None:
        """End everything that was started."""
        if self._life is not None:
            self._life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._life
        self._recommender = self._events = None
        if self._lanes is not None:
            self._lanes.close()
        if self._link is not None:
            await self._link.close()
        if self._redis is not None:
            self._redis.stop()

    def _not_ready(self) -> NotReadyError:
        return NotReadyError(str(self.failure or f"{self.settings.bundle} is being loaded and tested; ask /readyz"))

    async def redis_ok(self) -> bool:
        """Whether Redis answers now."""
        return self._link is not None and await self._link.answers()

    async def _live(self) -> None:
        try:
            recommender = self._recommender = await self._load()
        except Exception as error:
            self._refuse(error)
            return
        self.on_loaded(recommender.engine)
        cache = recommender.cache
        await asyncio.gather(
            _every(UPKEEP_S, lambda: self._upkeep(cache)),
            _every(self.settings.index_cache_seconds, lambda: _guard("following of changes", cache.follow)),
        )

    def _refuse(self, error: Exception) -> None:
        expected = isinstance(error, TandemError)
        self.failure = error if isinstance(error, TandemError) else BundleError(f"{type(error).__name__}: {error}")
        _log.error("bundle refused", reason=str(self.failure), exc_info=not expected)
        self.on_failure()

    async def _load(self) -> Recommender:
        """Load and test everything that answers requests."""
        started = time.perf_counter()
        settings, metrics = self.settings, self.metrics
        self._redis = self._embedded_redis()
        url = self._redis.url if self._redis else settings.redis_url
        link = self._link = RedisLink(url, settings.redis_connections, settings.redis_deadline_ms / 1e3, metrics)
        engine = await asyncio.to_thread(Engine.load, settings.bundle, settings)
        self._say_what_runs(engine)
        lanes = self._lanes = Lanes(engine, settings, metrics)
        layout = Layout.of(engine.bundle)
        changes = Changes(layout, link, settings.index_cache_seconds)
        cache = TransitionCache(layout, link, metrics, settings.index_cache_items, changes)
        # So that the first answers find the index in Redis, and the rows of most items in process.
        await self._upkeep(cache)
        popular = np.argsort(-engine.bundle.popularity[1:], kind="stable") + 1
        await _guard("warming of the index cache", lambda: cache.warm(popular.tolist()))
        histories = UserHistories(link, settings.user_history_length, settings.user_history_days)
        recommender = Recommender(engine, lanes, cache, histories, settings, metrics)
        await recommender.rehearse()
        transitions = LiveTransitions(layout, link, changes)
        self._events = LiveEvents(engine.bundle.catalogue, histories, transitions, cache)
        manifest = engine.bundle.manifest
        metrics.model.labels(manifest.name, manifest.version).set(1)
        metrics.catalogue.set(manifest.items)
        metrics.load.set(time.perf_counter() - started)
        return recommender

    def _say_what_runs(self, engine: Engine) -> None:
        opened = engine.graphs.opened
        _log.info(
            "graphs opened",
            providers={name: graph.provider for name, graph in opened.items()},
            reason="; ".join(sorted({graph.reason for graph in opened.values()})),
            workers=self.settings.workers,
            threads=self.settings.intra_op_threads,
        )

    def _embedded_redis(self) -> RedisServer | None:
        if self.settings.redis_url is not None:
            return None
        try:
            return RedisServer(self.settings.redis_max_memory_mb)
        except StoreUnavailableError as error:
            _log.warning("no embedded Redis; answers will be degraded", reason=str(error))
            return None

    async def _upkeep(self, cache: TransitionCache) -> None:
        """Keep Redis running, if it is ours, and filled."""

        async def keep() -> None:
            if self._redis is not None and self._redis.pid is None:
                await self._redis.start()
            await cache.keep_loaded()

        await _guard("upkeep of Redis", keep)


async def _guard(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Work that is done again later: nothing that goes wrong in it may end that."""
    try:
        await work()
    except StoreUnavailableError as error:
        _log.debug(f"{name} failed", reason=str(error))
    except Exception:
        _log.exception(f"{name} failed")


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await work()
        await asyncio.sleep(seconds)
