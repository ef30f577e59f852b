"""Every setting of the service, read from the environment (`TANDEM_...`); docs/settings.md is generated from it."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.precision import Precision
from models.sessions import Device
from service.variants import VARIANTS

PREFIX = "TANDEM_"
Weight = Annotated[float, Field(ge=0.0)]
RedisUrl = Annotated[str, Field(pattern=r"^(rediss?(\+cluster)?|unix)://.")]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Settings of one service process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: Path = Path("bundles/demo")
    """Folder of the bundle to serve, or of its numbered versions; the newest is taken."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged."""
    shutdown_grace_s: PositiveInt = 10
    """How long requests in flight may finish after SIGTERM."""

    device: Device = "auto"
    """What runs the graphs: `auto` takes a GPU where one works, `cpu` leaves it alone, `cuda` insists on it."""
    intra_op_threads: PositiveInt = 1
    """Threads inside one graph call. Keep workers x intra_op_threads within the cores."""
    workers: PositiveInt = Field(default_factory=lambda data: max(1, cores() // data.get("intra_op_threads", 1)))
    """Threads that run graphs; the default is as many as keep every core busy."""
    precision: Precision = "fp32"
    """`fp32` runs the exact graphs; `auto` takes the faster int8 graph of the bundle where it loses at most 0.5 % of
    NDCG@10 on validation; `int8` takes it whatever it loses."""
    graph_batch: dict[str, PositiveInt] = {"sasrec": 32, "tiger": 4, "sid_mlp": 8, "sid_mlp_pp": 8}
    """Largest batch of each graph. On a CPU batching pays for SASRec, hardly for TIGER; on a GPU allow 32 to 256."""
    gpu_memory_mb: PositiveInt = 4096
    """Working memory that each graph may take on a GPU."""
    cuda_graphs: bool = True
    """Whether a GPU records its graphs at the start, to launch each as a whole; costs memory for each batch size."""

    queue_limit: PositiveInt = 256
    """Requests in flight; one more is answered with 429."""
    default_deadline_ms: PositiveInt = 1000
    """Deadline of a request that sets none; a later answer is a 504."""
    max_deadline_ms: PositiveInt = 10_000
    """The longest deadline a request may set."""
    max_k: PositiveInt = 100
    """The most items a request may ask for."""
    max_batch: PositiveInt = 64
    """The most requests in one call of /v1/recommend:batch."""
    max_events: PositiveInt = 1000
    """The most events in one call of /v1/events."""
    max_history: PositiveInt = 1000
    """The longest history a request may send; a model reads the last part of it."""
    max_body_bytes: PositiveInt = 1 << 20
    """The largest request body."""

    redis_url: RedisUrl | None = None
    """Redis or Valkey to use, as `redis://host:6379/0`, or a cluster, as `redis+cluster://host:6379,host:6379`; unset
    starts one that lives and dies with the service."""
    redis_deadline_ms: PositiveFloat = 5.0
    """How long a request waits for Redis before it goes on without; time in which the service itself was busy does not
    count."""
    redis_connections: PositiveInt = 16
    """The most connections to Redis; to each node of a cluster."""
    redis_max_memory_mb: PositiveInt = 256
    """Memory of the embedded Redis; beyond it the keys that expire soonest go."""
    index_cache_items: Annotated[int, Field(ge=0)] = 20_000
    """Items whose transitions are kept in process, in front of Redis; 0 keeps none."""
    index_cache_seconds: PositiveFloat = 1.0
    """How long an answer may miss what another replica stored: how often replicas ask Redis for what has changed. While
    Redis does not answer, what is in process is used for five times as long."""
    filter_cache_mb: Annotated[int, Field(ge=0)] = 64
    """Memory for what `include_item_ids` filters open in the trie, kept for the next request with the same filter."""
    user_history_length: PositiveInt = 200
    """Events kept for each user."""
    user_history_days: PositiveInt = 90
    """A user's events are forgotten after so many days without a new one."""

    experiment_name: str = "distillation"
    """Name of the running experiment, as it appears in answers and metrics."""
    experiment_weights: dict[str, Weight] = {"ensemble_tiger": 0.5, "ensemble_sid_mlp": 0.5}
    """Share of the users that each variant gets; the shares sum to 1."""
    experiment_salt: str = "tandem-1"
    """Seed of the assignment; another salt deals the users anew."""

    @model_validator(mode="after")
    def _check_experiment(self) -> Self:
        unknown = sorted(set(self.experiment_weights) - set(VARIANTS))
        if unknown:
            raise ValueError(f"experiment_weights must name variants of {list(VARIANTS)}, got {unknown}")
        total = sum(self.experiment_weights.values())
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"experiment_weights must sum to 1, got {total}; raise or lower a share")
        return self


def render_docs() -> str:
    """The page docs/settings.md."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | `{_default(name, field.get_default())}` | {_line(field.description)} |"
        for name, field in Settings.model_fields.items()
    ]
    head = [
        "# Settings",
        "",
        "Generated by `tandem settings-docs > docs/settings.md`; edit `service/settings.py` instead.",
        "Every setting is an environment variable; mappings are written as JSON.",
        "",
        "| Variable | Default | Meaning |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *rows, ""])


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _default(name: str, value: Any) -> str:
    if name == "workers":  # differs from machine to machine
        return "cores / intra_op_threads"
    if isinstance(value, dict):
        return json.dumps(value)
    return "unset" if value is None else str(value)
