"""What goes over the wire: strict requests that forbid unknown fields, and answers that are always objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from models.ensemble import EnsembleParameters
from models.indicators import IndicatorName
from service.errors import Problem
from service.variants import VariantName

ItemId = Annotated[str, Field(min_length=1, max_length=512)]
EventId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/+=-]{1,128}$")]
UserId = Annotated[str, Field(min_length=1, max_length=256)]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class _Part:
    """A part of the answer to a recommendation: a dataclass, as an answer has 40, and models take longer to make."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)


class Filters(_Request):
    """Which items may be answered with. Ids outside the catalogue match nothing."""

    include_item_ids: list[ItemId] | None = None
    """Only these."""
    exclude_item_ids: list[ItemId] = []
    """None of these."""

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """It is frozen: requests without filters share one, of which each would get a deep copy."""
        return self


class RecommendRequest(_Request):
    """Ask for the next items of one user."""

    user_id: UserId | None = None
    """Decides the experiment's variant and, without a history, whose stored events are the history."""
    history: list[ItemId] | None = None
    """Item ids, the most recent last; an empty list is a cold start."""
    k: Annotated[int, Field(ge=1)] = 10
    """How many items to answer with."""
    variant: VariantName | None = None
    """Overrides the experiment."""
    exclude_seen: bool = True
    """Never answer with an item of the history."""
    unknown_items: Literal["error", "ignore"] = "error"
    """What to do with ids of a given history that the catalogue does not know."""
    filters: Filters = Filters()
    deadline_ms: Annotated[int, Field(ge=1)] | None = None
    """After so long the answer is a 504."""


# Entries are validated one by one, so that a bad one does not spoil the others.
BatchEntry = Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/RecommendRequest"})]


class BatchRequest(_Request):
    """Several requests in one call. A bad entry does not spoil the others."""

    requests: Annotated[list[BatchEntry], Field(min_length=1)]


class Event(_Request):
    """A user did something with an item."""

    user_id: UserId
    item_id: ItemId
    event_id: EventId | None = None
    """Makes a retry safe: repeated for the same user, the event has no effect while the first one is still kept."""


class EventsRequest(_Request):
    """Events in the order in which they happened."""

    events: Annotated[list[Event], Field(min_length=1)]


@dataclass(slots=True)
class ModelInfo(_Part):
    """What answered."""

    bundle: str
    version: int
    variant: VariantName
    graphs: list[str]
    """The graphs whose lists went into the answer; empty for a fallback."""


@dataclass(slots=True)
class ExperimentInfo(_Part):
    """Why this variant answered."""

    name: str
    variant: VariantName
    forced: bool
    """The request named the variant; leave it out of the experiment's analysis."""


@dataclass(slots=True)
class SourceEntry(_Part):
    """Where an item stood in the list of one source."""

    rank: int
    score: float
    """In the source's own unit: logit (sasrec), log-probability (generative), count (transitions, popularity)."""


@dataclass(slots=True)
class ItemExplanation(_Part):
    """The strongest training evidence that leads from the history to an item."""

    __pydantic_config__ = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "category": "transitivity",
                    "hop": 1,
                    "support": 3,
                    "via": "D00345",
                    "through": "D00017",
                    "text": "D00041 came right after D00017, and D00017 right after D00345, at least 3 times each in "
                    "training.",
                }
            ]
        },
    )

    category: str
    """memorization, substitutability, symmetry, transitivity or 2nd-symmetry."""
    hop: int
    """The steps, 1 to 4, that suffice: for how far `via` is from the end of the history, and for each transition."""
    support: int
    """How often training has the transition within `hop` steps; of two transitions, the rarer one."""
    via: str
    """The item of the history that the evidence starts from."""
    through: str | None
    """The item that links `via` to this one; null where the two occurred together."""
    text: str
    """The same as a sentence."""


@dataclass(slots=True)
class RecommendedItem(_Part):
    """One item of an answer."""

    item_id: str
    rank: int
    score: float | None
    """What the items are ordered by; null for an item that only fills the answer up."""
    sources: dict[str, SourceEntry | None]
    """By source; null where that source did not list the item."""
    category: str | None
    """How training transitions explain the item after this history; null without a history."""
    labels: list[str]
    """Every type that explains it with the smallest hop, then the group."""
    explanation: ItemExplanation | None
    """The evidence behind `category`; null where there is none, and for an item that popularity put there."""
    title: str | None = None
    brand: str | None = None
    categories: list[str] | None = None
    price: float | None = None


@dataclass(slots=True)
class IndicatorValue(_Part):
    """What the weight of SASRec was computed from."""

    name: IndicatorName
    value: float


@dataclass(slots=True)
class RecommendResponse(_Part):
    """The answer to one request."""

    request_id: str
    model: ModelInfo
    experiment: ExperimentInfo
    items: list[RecommendedItem]
    """Distinct, allowed, best first; fewer than k only when the catalogue has no more that are allowed."""
    indicator: IndicatorValue | None
    alpha: float | None
    """Weight of SASRec in the ensemble."""
    cold_start: bool
    """There was no history to recommend from."""
    fallback: str | None
    """What answered in place of the variant, if anything had to."""
    degraded: list[str]
    """Parts of the service that were missing for this answer."""
    timings: dict[str, float]
    """Milliseconds by stage; stages that run side by side overlap."""


class BatchResponse(_Answer):
    """One response or problem for each request, in order."""

    request_id: str
    responses: list[RecommendResponse | Problem]


class EventsResponse(_Answer):
    """What became of the events."""

    request_id: str
    accepted: int
    repeated: int
    """How many of them were known already by their `event_id`, and had no effect."""
    unknown_item_ids: list[str]
    """Stored all the same: a later bundle may know them."""
    degraded: list[str]
    """`transition_index` when the histories were stored but not all of the live transitions."""


class GraphInfo(_Answer):
    """One graph of the bundle."""

    provider: str
    precision: Literal["fp32", "int8"]
    max_history: int
    width: int
    parameters: int
    normalisation: str
    max_batch: int


class ModelsResponse(_Answer):
    """The bundle that answers."""

    name: str
    version: int
    created: str
    items: int
    levels: int
    codebook_size: int
    graphs: dict[str, GraphInfo]
    variants: list[VariantName]
    ensembles: Mapping[str, EnsembleParameters]
    experiment: dict[str, float]
    metrics: Mapping[str, Any]


class Liveness(_Answer):
    """The event loop runs."""

    status: Literal["alive"] = "alive"


class Readiness(_Answer):
    """A bundle is loaded, tested and warm; `redis` may be away, then answers are degraded."""

    status: Literal["ready"] = "ready"
    bundle: str
    redis: Literal["ok", "unavailable"]
    transition_index: Literal["loaded", "loading"]
