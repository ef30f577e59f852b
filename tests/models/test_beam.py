"""The one-graph beam search against brute force, and TIGER against Hugging Face T5 with the same weights."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.hugging_face import ConstrainedGenerate, as_hugging_face
from models.networks.beam import Beams, Level, TigerBeam
from models.networks.beam import search as run_levels
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpConfig
from models.networks.tiger import Tiger, TigerConfig
from models.trie import Trie
from tests.bundles import CODEBOOK, ITEMS, LEVELS, tiny_parts
from training.export import Search, level_tensors
from training.publish import Parts

HISTORIES = torch.tensor([[3, 9, 27, 1], [5, 0, 0, 0], [0, 0, 0, 0], [60, 2, 2, 0]])


def catalogue(parts: Parts) -> tuple[Trie, Tensor]:
    return Trie.build(parts.catalogue.codes), torch.from_numpy(parts.catalogue.codes)


def search(module: Search, parts: Parts, history: Tensor, allowed: np.ndarray) -> tuple[Tensor, Tensor]:
    trie, item_codes = catalogue(parts)
    levels: list[Level] = level_tensors(trie, allowed)
    with torch.no_grad():
        items, scores = module.eval()(history, item_codes, torch.from_numpy(trie.leaf_item), levels)
    return items, scores


def everything(batch: int) -> np.ndarray:
    return np.ones((batch, ITEMS + 1), dtype=np.bool_)


def brute_force(tiger: Tiger, parts: Parts, history: Tensor) -> Tensor:
    """Log-probability of every item [B, N], teacher-forced one by one."""
    _, item_codes = catalogue(parts)
    scores = torch.zeros(len(history), ITEMS)
    with torch.no_grad():
        for item in range(1, ITEMS + 1):
            logits = tiger(history, torch.full((len(history),), item), item_codes)
            tokens = tiger.code_tokens(item_codes[item])
            scores[:, item - 1] = torch.log_softmax(logits, -1)[:, torch.arange(LEVELS), tokens].sum(1)
    return scores


def brute_force_renormalised(parts: Parts, history: Tensor) -> Tensor:
    """Log-probability of every item under SID-MLP, normalised at each level over the codes that continue a prefix."""
    _, item_codes = catalogue(parts)
    body = item_codes[1:]
    scores = torch.zeros(len(history), ITEMS)
    with torch.no_grad():
        states, real = parts.tiger.encoder(history, item_codes)
        for item, codes in enumerate(body):
            prefix = codes[None, :-1].expand(len(history), -1)
            logits = parts.student(states, real, prefix, parts.tiger.encoder.embedding.weight)
            for level in range(LEVELS):
                siblings = body[(body[:, :level] == codes[:level]).all(1), level].unique()
                chosen = logits[:, level, codes[level]] - logits[:, level][:, siblings].logsumexp(1)
                scores[:, item] += chosen
    return scores


def assert_ranking(items: Tensor, scores: Tensor, expected: Tensor) -> None:
    """`items` and `scores` are the whole ranking that `expected` [B, N] implies."""
    best, order = expected.sort(dim=1, descending=True)
    assert torch.equal(items, order[:, : items.shape[1]] + 1)
    torch.testing.assert_close(scores, best[:, : items.shape[1]], rtol=0, atol=1e-4)


def test_a_beam_as_wide_as_the_catalogue_is_brute_force(parts: Parts) -> None:
    items, scores = search(TigerBeam(parts.tiger, ITEMS), parts, HISTORIES, everything(4))
    assert_ranking(items, scores, brute_force(parts.tiger, parts, HISTORIES))


@pytest.mark.parametrize("skip_forced", [False, True])
def test_sid_mlp_with_a_beam_as_wide_as_the_catalogue_is_brute_force(parts: Parts, skip_forced: bool) -> None:
    module = SidMlpBeam(parts.tiger.encoder, parts.student, ITEMS, skip_forced=skip_forced)
    items, scores = search(module, parts, HISTORIES, everything(4))
    assert_ranking(items, scores, brute_force_renormalised(parts, HISTORIES))


@pytest.mark.parametrize("seed", range(3))
def test_masked_search_is_brute_force_over_what_is_allowed(parts: Parts, seed: int) -> None:
    allowed = np.random.default_rng(seed).random((4, ITEMS + 1)) < 0.3
    items, scores = search(TigerBeam(parts.tiger, ITEMS), parts, HISTORIES, allowed)
    expected = brute_force(parts.tiger, parts, HISTORIES)
    for row in range(4):
        open_items = np.flatnonzero(allowed[row, 1:])
        best = sorted(open_items, key=lambda i: -expected[row, i].item())
        count = len(best)
        assert items[row, :count].tolist() == [i + 1 for i in best]
        assert items[row, count:].eq(0).all()
        assert scores[row, count:].isneginf().all()


@pytest.mark.parametrize("width", [1, 4, 20])
def test_no_answer_is_invalid_or_repeated(parts: Parts, width: int) -> None:
    allowed = np.random.default_rng(width).random((4, ITEMS + 1)) < 0.5
    for module in (TigerBeam(parts.tiger, width), SidMlpBeam(parts.tiger.encoder, parts.student, width)):
        items, scores = search(module, parts, HISTORIES, allowed)
        for row, (answer, row_scores) in enumerate(zip(items.tolist(), scores.tolist(), strict=True)):
            real = [item for item in answer if item]
            assert len(real) == len(set(real)) > 0
            assert all(allowed[row, item] for item in real)
            assert all(left >= right for left, right in pairwise(row_scores))


def test_the_batch_does_not_change_an_answer(parts: Parts) -> None:
    module = TigerBeam(parts.tiger, 20)
    together = search(module, parts, HISTORIES, everything(4))
    for row, history in enumerate(HISTORIES):
        length = max(1, int((history > 0).sum()))
        alone = search(module, parts, history[None, :length], everything(1))
        assert torch.equal(alone[0][0], together[0][row])
        torch.testing.assert_close(alone[1][0], together[1][row], rtol=0, atol=1e-5)


def test_precomputed_tables_change_nothing(parts: Parts) -> None:
    """SID-MLP's first layer as table look-ups equals the concatenation it stands for."""
    head = parts.student.heads[2]
    context, first, second = torch.randn(3, 5, parts.tiger.config.d_model)
    split = head.of_context(context) + head.of_codes(first, 0) + head.of_codes(second, 1)
    torch.testing.assert_close(split, head.first(torch.cat([context, first, second], dim=-1)))


@pytest.fixture(scope="module")
def two_layers() -> Parts:
    """A network deep enough that the relative bias and the caches of several layers count."""
    parts = tiny_parts(seed=1)
    torch.manual_seed(2)
    config = TigerConfig(
        levels=LEVELS, codebook_size=CODEBOOK, d_model=32, d_ff=48, heads=4, d_kv=12, encoder_layers=2, decoder_layers=2
    )
    tiger = Tiger(config).eval()
    for name, weight in tiger.named_parameters():
        if name.endswith("norm.weight"):  # all ones, they could not be forgotten
            nn.init.uniform_(weight, 0.5, 1.5)
    student = SidMlp(config, SidMlpConfig(heads=2, head_size=8, d_ff=32, hidden=16)).eval()
    return Parts(**{**vars(parts), "tiger": tiger, "student": student})


def test_network_is_hugging_face_t5(two_layers: Parts) -> None:
    tiger = two_layers.tiger
    _, item_codes = catalogue(two_layers)
    model = as_hugging_face(tiger)
    targets = torch.tensor([4, 50, 7, 33])
    tokens, real = tiger.encoder.tokens(HISTORIES, item_codes)
    start = torch.zeros(4, 1, dtype=torch.int64)
    decoder_input = torch.cat([start, tiger.code_tokens(item_codes[targets][:, :-1])], dim=1)
    with torch.no_grad():
        ours = tiger(HISTORIES, targets, item_codes)
        theirs = model(input_ids=tokens, attention_mask=real.long(), decoder_input_ids=decoder_input)
        states, _ = tiger.encoder(HISTORIES, item_codes)
        encoded: BaseModelOutput = model.encoder(input_ids=tokens, attention_mask=real.long())
    torch.testing.assert_close(ours, theirs.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(states[real], encoded.last_hidden_state[real], rtol=0, atol=1e-4)


@pytest.mark.parametrize("beams", [3, 20])
def test_search_is_hugging_face_generate_with_a_prefix_trie(two_layers: Parts, beams: int) -> None:
    history = HISTORIES[[0, 1, 3]]
    items, scores = search(TigerBeam(two_layers.tiger, beams), two_layers, history, everything(3))
    their_items, their_scores = ConstrainedGenerate(two_layers.tiger, catalogue(two_layers)[1])(history, beams)
    assert torch.equal(items, their_items)
    torch.testing.assert_close(scores, their_scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("width", [1, 3, 20])
def test_rearranged_weights_change_nothing(two_layers: Parts, width: int) -> None:
    """The searches that are exported against those over the networks as they were trained."""
    tiger, student = two_layers.tiger, two_layers.student
    allowed = np.random.default_rng(width).random((4, ITEMS + 1)) < 0.7
    pairs: list[tuple[Search, Search]] = [
        (FusedTigerBeam(tiger, width), TigerBeam(tiger, width)),
        (FusedTigerBeam(tiger, width, renormalised=True), TigerBeam(tiger, width, renormalised=True)),
        (SidMlpBeam(FusedEncoder(tiger.encoder), student, width), SidMlpBeam(tiger.encoder, student, width)),
        (
            SidMlpBeam(FusedEncoder(tiger.encoder), student, width, skip_forced=True),
            SidMlpBeam(tiger.encoder, student, width),
        ),
    ]
    for fused, plain in pairs:
        items, scores = search(fused, two_layers, HISTORIES, allowed)
        expected, expected_scores = search(plain, two_layers, HISTORIES, allowed)
        assert torch.equal(items, expected)
        torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-4)


def test_beams_are_skipped_only_where_a_child_is_certain(parts: Parts) -> None:
    with pytest.raises(ValueError, match="needs renormalised scores"):
        SidMlpBeam(parts.tiger.encoder, parts.student, 3, renormalised=False, skip_forced=True)


def slow_beam(tiger: Tiger, parts: Parts, history: Tensor, widths: Sequence[int]) -> list[list[int]]:
    """Items of a beam search over dictionaries of prefixes, whose level t keeps the best `widths[t]`."""
    _, item_codes = catalogue(parts)
    item_of = {tuple(codes): item for item, codes in enumerate(item_codes.tolist()) if item}
    answers = []
    with torch.no_grad():
        for row in history:
            beams: dict[tuple[int, ...], float] = {(): 0.0}
            states, real = tiger.encoder(row[None], item_codes)
            for level, width in enumerate(widths):
                reached: dict[tuple[int, ...], float] = {}
                for prefix, score in beams.items():
                    codes = torch.tensor([prefix], dtype=torch.int64)
                    logits = torch.log_softmax(tiger.decode(codes, states, real)[0, -1], -1)
                    shares = tiger.level_of(logits, level)
                    for child in {codes[: level + 1] for codes in item_of if codes[:level] == prefix}:
                        reached[child] = score + shares[child[-1]].item()
                beams = dict(sorted(reached.items(), key=lambda pair: -pair[1])[:width])
            answers.append([item_of[prefix] for prefix in beams])
    return answers


@pytest.mark.parametrize(
    ("width", "kept"), [(5, (5, 5, 5)), (20, (CODEBOOK, 20, 20)), (ITEMS, (CODEBOOK, ITEMS, ITEMS))]
)
def test_a_level_keeps_no_more_beams_than_there_are_prefixes(parts: Parts, width: int, kept: tuple[int, ...]) -> None:
    seen: list[int] = []

    def step(beams: Beams, t: int) -> Tensor:
        seen.append(beams.nodes.shape[1])
        return torch.zeros(1, beams.nodes.shape[1], CODEBOOK)

    found = run_levels(
        step, HISTORIES[:1], level_tensors(catalogue(parts)[0], everything(1)), width, renormalised=False
    )
    assert (*seen[1:], found.nodes.shape[1]) == kept


@pytest.mark.parametrize("width", [3, CODEBOOK + 2, 20])
def test_bounded_levels_lose_nothing(parts: Parts, width: int) -> None:
    items, _ = search(TigerBeam(parts.tiger, width), parts, HISTORIES, everything(4))
    assert items.tolist() == slow_beam(parts.tiger, parts, HISTORIES, [width] * LEVELS)


@pytest.mark.parametrize("widths", [(2, 3), (8, 2), (1, 6)])
def test_narrow_levels_keep_what_they_say(two_layers: Parts, widths: tuple[int, int]) -> None:
    for module in (TigerBeam(two_layers.tiger, 4, widths=widths), FusedTigerBeam(two_layers.tiger, 4, widths=widths)):
        items, scores = search(module, two_layers, HISTORIES, everything(4))
        expected = slow_beam(two_layers.tiger, two_layers, HISTORIES, (*widths, 4))
        assert [[item for item in row if item] for row in items.tolist()] == expected
        assert torch.equal(items == 0, scores.isneginf())


@pytest.mark.parametrize("widths", [(3,), (3, 0), (3, 3, 3)])
def test_widths_are_those_of_the_levels_before_the_last(parts: Parts, widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="each of the 2 levels before the last at least one beam, got"):
        search(TigerBeam(parts.tiger, 4, widths=widths), parts, HISTORIES, everything(4))
