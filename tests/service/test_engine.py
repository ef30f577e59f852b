"""Loading: a bundle that does not do what its manifest promises is refused, with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from models.errors import BundleError
from service.engine import Engine, Query
from service.settings import Settings
from service.variants import VARIANTS
from tests.service.servers import altered


def test_each_query_of_a_batch_gets_its_own_answer(bundle_path: Path) -> None:
    engine = Engine.load(bundle_path, Settings())
    everything = engine.filters.get(None)
    queries = [Query(history, everything.without(history)) for history in ([1], [2, 3, 4], [9, 8])]
    for name in engine.graphs.entries:
        for query, answer in zip(queries, engine.run(name, queries), strict=True):
            (alone,) = engine.run(name, [query])
            assert answer.items.shape == (1, engine.graphs.entries[name].width)
            assert answer.items.tolist() == alone.items.tolist()
            np.testing.assert_allclose(answer.scores, alone.scores, atol=1e-5)


def test_a_setting_chooses_the_int8_graphs_and_the_log_says_why(int8_path: Path) -> None:
    with capture_logs() as logs:
        engine = Engine.load(int8_path, Settings(precision="auto"))
    opened = {line["graph"]: line for line in logs if line["event"] == "graph opened"}
    assert {name: line["precision"] for name, line in opened.items()} == {
        "sasrec": "fp32",
        "tiger": "int8",
        "sid_mlp": "fp32",
    }
    assert "loses 0.40% of NDCG@10 on 1000 validation users" in opened["tiger"]["reason"]
    (answer,) = engine.run("tiger", [Query([1, 2], engine.filters.get(None).without([1, 2]))])
    assert answer.items.shape == (1, engine.graphs.entries["tiger"].width)


def _swap(manifest: dict[str, Any]) -> None:
    manifest["graphs"]["tiger"]["file"] = "sasrec.onnx"


def _widen(manifest: dict[str, Any]) -> None:
    manifest["graphs"]["sid_mlp"]["width"] += 1


def _drop(manifest: dict[str, Any]) -> None:
    del manifest["graphs"]["tiger"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_swap, "graph tiger of .* must answer a test request, but"),
        (_widen, "graph sid_mlp of .* fails its self-test: its manifest promises lists of 21"),
        (_drop, r"the experiment gives users to \['ensemble_tiger'\].* Set TANDEM_EXPERIMENT_WEIGHTS"),
    ],
)
def test_a_bundle_that_breaks_its_promises_is_refused(
    bundle_path: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        Engine.load(altered(bundle_path, tmp_path / "bundle", edit), Settings())


def test_a_bundle_with_a_sid_mlp_pp_serves_its_variants(plus_plus_path: Path) -> None:
    engine = Engine.load(plus_plus_path, Settings(experiment_weights={"ensemble_sid_mlp_pp": 1.0}))
    assert tuple(engine.variants) == VARIANTS
    query = Query([2, 3, 4], engine.filters.get(None).without([2, 3, 4]))
    (answer,) = engine.run("sid_mlp_pp", [query])
    assert (
        answer.items.tolist()
        == engine.graphs.generate("sid_mlp_pp", [query.history], query.open.items[None]).items.tolist()
    )


def test_a_bundle_may_lack_graphs_that_no_variant_in_use_needs(bundle_path: Path, tmp_path: Path) -> None:
    settings = Settings(experiment_weights={"ensemble_sid_mlp": 1.0})
    engine = Engine.load(altered(bundle_path, tmp_path / "bundle", _drop), settings)
    assert list(engine.variants) == ["sid_mlp", "sasrec", "ensemble_sid_mlp"]
