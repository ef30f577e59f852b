"""The answers of a real `tandem serve`, over HTTP."""

from dataclasses import asdict
from typing import Any

import httpx2
import numpy as np
import pytest
from pydantic import TypeAdapter

from models.bundle import Bundle
from models.categories import GROUPS
from models.context import Context
from models.explanations import explain
from models.graphs import Graphs
from models.histories import allow_all_but
from models.paths import TYPES
from service.answers import explained
from service.schemas import ItemExplanation
from service.variants import VARIANTS, variant
from tests.bundles import ITEMS, WIDTH

HISTORY = ["T003", "T014", "T015"]
ITEM_IDS = [f"T{i:03d}" for i in range(ITEMS)]
SERVED = [name for name in VARIANTS if not name.endswith("_pp")]  # the tiny bundle has no SID-MLP++


def ask(client: httpx2.Client, **request: Any) -> dict[str, Any]:
    response = client.post("/v1/recommend", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_an_answer_has_every_part_of_the_contract(client: httpx2.Client) -> None:
    answer = ask(client, user_id="u1", history=HISTORY, k=5, variant="ensemble_sid_mlp")
    assert answer["model"] == {
        "bundle": "tiny",
        "version": 1,
        "variant": "ensemble_sid_mlp",
        "graphs": ["sasrec", "sid_mlp"],
    }
    assert answer["experiment"] == {"name": "distillation", "variant": "ensemble_sid_mlp", "forced": True}
    assert answer["indicator"]["name"] == "learned"
    assert 0 < answer["indicator"]["value"] < 1
    assert 0 < answer["alpha"] < 1
    assert (answer["cold_start"], answer["fallback"], answer["degraded"]) == (False, None, [])
    assert answer["timings"].keys() == {
        f"{stage}_ms"
        for stage in (
            "total", "history", "queue", "inference", "sasrec", "generative", "index", "fusion", "categories"
        )
    }  # fmt: skip
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    for item in answer["items"]:
        assert set(item["sources"]) == {"sasrec", "sid_mlp"}
        assert any(item["sources"].values())
        assert item["labels"][-1] in GROUPS
        assert item["category"] in item["labels"]
        assert item["title"].startswith("Thing ")
        assert item["price"] == float(item["item_id"][1:])


def test_the_category_is_the_strongest_label(client: httpx2.Client) -> None:
    seen = set()
    for item in ask(client, history=HISTORY, k=50, variant="ensemble_tiger")["items"]:
        types = [label for label in item["labels"] if label not in GROUPS]
        strongest = min(types, key=lambda label: (int(label[-1]), TYPES.index(label[:-2])), default=item["labels"][-1])
        assert item["category"] == strongest
        seen.add(strongest)
    assert "memorization" in seen
    assert len(seen) > 2


@pytest.mark.parametrize("history", [HISTORY, ["T007"], HISTORY * 2])
def test_each_item_is_explained_by_the_transitions_of_the_bundle(
    client: httpx2.Client, adaptive: Bundle, history: list[str]
) -> None:
    catalogue = adaptive.catalogue
    items = ask(client, history=history, k=15, variant="tiger", exclude_seen=False)["items"]
    indexes = {item_id: index for index, item_id in enumerate(catalogue.item_ids, start=1)}
    expected = explain(
        Context.of([indexes[item_id] for item_id in history], adaptive.transitions),
        adaptive.transitions,
        np.array([indexes[item["item_id"]] for item in items]),
    )[1]
    assert sum(explanation is not None for explanation in expected) > 5
    for item, explanation in zip(items, expected, strict=True):
        wire = explained(indexes[item["item_id"]], explanation, catalogue)
        assert item["explanation"] == (wire and asdict(wire))
        assert item["category"] == ("uncategorized" if explanation is None else explanation.label)


def test_the_example_of_an_explanation_is_one(client: httpx2.Client) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["ItemExplanation"]
    for example in schema["examples"]:
        assert asdict(TypeAdapter(ItemExplanation).validate_python(example)) == example
    assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize("name", SERVED)
def test_a_forced_variant_answers_with_its_graphs(client: httpx2.Client, name: str) -> None:
    answer = ask(client, user_id="u1", history=HISTORY, variant=name)
    expected = next(variant(candidate) for candidate in VARIANTS if candidate == name)
    assert answer["model"]["graphs"] == list(expected.graphs)
    assert answer["experiment"]["forced"]
    assert (answer["indicator"] is not None) == expected.ensemble
    # TIGER's ensemble scores each candidate by itself, so that no one weight describes it.
    assert (answer["alpha"] is not None) == (name == "ensemble_sid_mlp")


def test_the_service_ensemble_is_the_offline_ensemble(client: httpx2.Client, adaptive: Bundle) -> None:
    graphs, random = Graphs(adaptive), np.random.default_rng(7)
    for trial in range(50):
        name = ("tiger", "sid_mlp")[trial % 2]
        history = (random.permutation(ITEMS)[: random.integers(1, 9)] + 1).tolist()
        allowed = allow_all_but([history], ITEMS)
        ranked, generated = graphs.rank([history], allowed), graphs.generate(name, [history], allowed)
        verdict = adaptive.fusions[name](ranked, generated, [Context.of(history, adaptive.transitions)])

        item_ids = [adaptive.catalogue.item_id(index) for index in history]
        answer = ask(client, history=item_ids, k=15, variant=f"ensemble_{name}")
        assert ids(answer) == [adaptive.catalogue.item_id(index) for index in verdict.fused.items[0, :15].tolist()]
        scores = [item["score"] for item in answer["items"]]
        assert scores == pytest.approx(verdict.fused.scores[0, :15].tolist(), abs=1e-6)
        assert answer["alpha"] == (None if verdict.alpha is None else pytest.approx(verdict.alpha[0], abs=1e-6))
        assert answer["indicator"] == {"name": "learned", "value": pytest.approx(verdict.value[0], abs=1e-6)}


def test_a_single_variant_answers_with_the_list_of_its_graph(client: httpx2.Client, adaptive: Bundle) -> None:
    history = [4, 15, 16]
    generated = Graphs(adaptive).generate("tiger", [history], allow_all_but([history], ITEMS))
    answer = ask(client, history=HISTORY, variant="tiger", k=WIDTH)
    assert ids(answer) == [adaptive.catalogue.item_id(index) for index in generated.items[0].tolist()]
    assert [item["sources"]["tiger"]["rank"] for item in answer["items"]] == list(range(1, WIDTH + 1))


@pytest.mark.parametrize("name", SERVED)
def test_seen_and_filtered_items_never_come_back_and_none_comes_twice(client: httpx2.Client, name: str) -> None:
    random = np.random.default_rng(3)
    for _ in range(10):
        history = random.choice(ITEM_IDS, size=int(random.integers(1, 30))).tolist()
        hidden = random.choice(ITEM_IDS, size=5).tolist()
        answer = ask(client, history=history, k=60, variant=name, filters={"exclude_item_ids": [*hidden, "unheard-of"]})
        assert sorted(ids(answer)) == sorted(set(ITEM_IDS) - set(history) - set(hidden))


def test_seen_items_come_back_on_request(client: httpx2.Client) -> None:
    assert sorted(ids(ask(client, history=HISTORY, k=60, exclude_seen=False))) == ITEM_IDS


def test_only_included_items_come_back(client: httpx2.Client) -> None:
    wanted = ["T001", "T014", "T030", "T031", "unheard-of"]
    assert sorted(ids(ask(client, history=HISTORY, filters={"include_item_ids": wanted}))) == ["T001", "T030", "T031"]
    assert ids(ask(client, history=HISTORY, filters={"include_item_ids": []})) == []


def test_more_items_than_the_beam_holds_are_filled_up_by_popularity(client: httpx2.Client, adaptive: Bundle) -> None:
    answer = ask(client, history=HISTORY, k=40, variant="tiger")
    listed, filled = answer["items"][:WIDTH], answer["items"][WIDTH:]
    assert len(filled) == 40 - WIDTH
    assert all(item["sources"].keys() == {"tiger"} for item in listed)
    assert all(item["score"] is None and item["sources"]["tiger"] is None for item in filled)
    counts = [adaptive.popularity[adaptive.catalogue.index_of(item["item_id"])] for item in filled]
    assert counts == sorted(counts, reverse=True)
    assert counts == [item["sources"]["popularity"]["score"] for item in filled]
    assert any(item["explanation"] for item in listed)
    assert {item["category"] for item in filled} - {"uncategorized"}
    assert all(item["explanation"] is None for item in filled)
    assert answer["fallback"] is None


@pytest.mark.parametrize("request_body", [{}, {"history": []}, {"user_id": "never seen"}])
def test_without_a_history_the_most_popular_items_answer(
    client: httpx2.Client, adaptive: Bundle, request_body: dict[str, Any]
) -> None:
    answer = ask(client, **request_body)
    assert (answer["cold_start"], answer["fallback"], answer["degraded"]) == (True, "popularity", [])
    order = (np.argsort(-adaptive.popularity[1:], kind="stable") + 1)[:10]
    assert ids(answer) == [adaptive.catalogue.item_id(int(index)) for index in order]
    assert all(item["category"] is None and item["explanation"] is None for item in answer["items"])


def test_unknown_items_can_be_ignored(client: httpx2.Client) -> None:
    known = ask(client, history=HISTORY, variant="sasrec")
    mixed = ask(client, history=["nope", *HISTORY, "nor this"], variant="sasrec", unknown_items="ignore")
    assert ids(mixed) == ids(known)
    assert ask(client, history=["nope"], unknown_items="ignore")["cold_start"]


def test_events_become_the_history_of_their_user(client: httpx2.Client) -> None:
    events = [{"user_id": "eve", "item_id": item} for item in HISTORY[:2]]
    stored = client.post("/v1/events", json={"events": [*events, {"user_id": "eve", "item_id": "new"}]})
    assert stored.status_code == 200
    assert (stored.json()["accepted"], stored.json()["unknown_item_ids"]) == (3, ["new"])
    client.post("/v1/events", json={"events": [{"user_id": "eve", "item_id": HISTORY[2]}]})
    stored_history = ask(client, user_id="eve", variant="ensemble_tiger")
    given_history = ask(client, history=HISTORY, variant="ensemble_tiger")
    assert stored_history["items"] == given_history["items"]
    assert ask(client, user_id="eve", history=["T001"], variant="ensemble_tiger")["items"] != given_history["items"]


def test_a_user_keeps_one_variant_and_users_are_split(client: httpx2.Client) -> None:
    variants = [ask(client, user_id=f"user-{n}", history=HISTORY)["model"]["variant"] for n in range(60)]
    again = [ask(client, user_id=f"user-{n}", history=["T001"])["experiment"]["variant"] for n in range(60)]
    assert variants == again
    assert 15 < variants.count("ensemble_tiger") < 45
    assert set(variants) == {"ensemble_tiger", "ensemble_sid_mlp"}


def test_a_batch_equals_its_requests_one_by_one(client: httpx2.Client) -> None:
    random = np.random.default_rng(11)
    requests = [
        {
            "user_id": f"user-{n}",
            "history": random.choice(ITEM_IDS, size=int(random.integers(0, 12))).tolist(),
            "variant": SERVED[n % len(SERVED)],
        }
        for n in range(30)
    ]
    batch = client.post("/v1/recommend:batch", json={"requests": requests}).json()
    for request, answer in zip(requests, batch["responses"], strict=True):
        single = ask(client, **request)
        assert ids(answer) == ids(single)
        left, right = ([item["score"] for item in found["items"]] for found in (answer, single))
        assert left == pytest.approx(right, abs=1e-4)
    assert len({answer["request_id"] for answer in batch["responses"]}) == len(requests)


def test_a_bad_entry_does_not_spoil_a_batch(client: httpx2.Client) -> None:
    requests = [{"history": HISTORY}, {"history": ["nope"]}, {"k": "ten"}, 17, {"history": HISTORY, "k": 3}]
    response = client.post("/v1/recommend:batch", json={"requests": requests})
    assert response.status_code == 200
    good, unknown, wrong, absurd, last = response.json()["responses"]
    assert len(good["items"]) == 10
    assert len(last["items"]) == 3
    for found in (unknown, wrong, absurd):
        assert (found["status"], found["type"]) == (422, "urn:tandem:problem:invalid-request")
    assert "'nope'" in unknown["detail"]
    assert wrong["errors"][0]["location"] == ["k"]


def test_the_answer_carries_its_id_and_its_timings_in_headers(client: httpx2.Client) -> None:
    response = client.post("/v1/recommend", json={"history": HISTORY}, headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "abc-1"
    stages = {part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")}
    assert {"total", "history", "queue", "inference", "sasrec", "generative", "index", "fusion"} <= stages
    unfit = client.post("/v1/recommend", json={"history": HISTORY}, headers={"x-request-id": "a b" * 99})
    assert unfit.headers["x-request-id"] not in ("a b" * 99, "")


def test_the_models_page_describes_the_bundle(client: httpx2.Client) -> None:
    found = client.get("/v1/models").json()
    assert (found["name"], found["version"], found["items"]) == ("tiny", 1, ITEMS)
    assert found["graphs"]["tiger"]["width"] == WIDTH
    assert found["graphs"]["tiger"]["provider"].endswith("ExecutionProvider")
    assert found["variants"] == SERVED
    assert found["experiment"] == {"ensemble_tiger": 0.5, "ensemble_sid_mlp": 0.5}


def test_health_is_truthful(client: httpx2.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "bundle": "tiny@1",
        "redis": "ok",
        "transition_index": "loaded",
    }


@pytest.mark.parametrize("body", [{"history": HISTORY, "k": 3}, {}, {"history": ["nope"]}, {"k": 0}])
def test_the_framework_answers_the_same_as_the_way_around_it(client: httpx2.Client, body: dict[str, Any]) -> None:
    def answer(content_type: str) -> tuple[int, str, dict[str, Any]]:
        headers = {"content-type": content_type, "x-request-id": "same"}
        response = client.post("/v1/recommend", json=body, headers=headers)
        found = {name: value for name, value in response.json().items() if name != "timings"}
        return response.status_code, response.headers["content-type"], found

    direct, also_direct = answer("application/json"), answer("Application/JSON; charset=utf-8")
    assert direct == also_direct == answer("application/vnd.tandem+json")
