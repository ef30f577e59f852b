"""The synthetic catalogues are as described, and small ones are measured in every way."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.catalogue import BEAMS, EXACT, SCAN, decoder, measure, report
from benchmarks.catalogues import NODES, beauty_like, level_sizes
from models.networks.fused import FusedEncoder
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpConfig
from models.networks.tiger import Tiger, TigerConfig
from models.trie import Trie


@pytest.mark.parametrize("items", [500, NODES[-1], 100_000])
def test_a_catalogue_has_the_nodes_it_claims(items: int) -> None:
    codes = beauty_like(items)
    assert tuple(len(level) for level in Trie.build(codes).code) == level_sizes(items)
    assert codes.shape == (items + 1, 4)
    assert codes[1:].max() == 255


def test_sizes_follow_those_of_beauty() -> None:
    assert level_sizes(NODES[-1]) == NODES
    for smaller, larger in zip(level_sizes(10**6), level_sizes(10**7), strict=True):
        assert smaller <= larger
    assert level_sizes(10**7)[1] == 256**2  # every pair of codes is in use


def test_small_catalogues_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("benchmarks.catalogue.LARGEST_SASREC", 1_000)
    config = TigerConfig(d_model=16, d_ff=16, heads=2, d_kv=8, encoder_layers=1, decoder_layers=1)
    student = SidMlp(config, SidMlpConfig(heads=2, head_size=8, d_ff=16, hidden=16)).eval()
    search = SidMlpBeam(FusedEncoder(Tiger(config).eval().encoder), student, BEAMS)
    with torch.no_grad():
        sessions = {"sid_mlp": decoder(search, tmp_path / "sid_mlp.onnx")}
        cases = measure([2_000, 600], sessions, 2, tmp_path, Console(quiet=True))
    assert [case["items"] for case in cases] == [600, 2_000]
    for case in cases:
        times = [value for name, value in case.items() if name.endswith("_ms") and not isinstance(value, dict)]
        assert len(times) == 4
        assert min(times) > 0
        assert case["swap_seconds"] > 0
        assert case["build_seconds"] > 0
        assert 0 < case["tables_mb"] < case["build_peak_mb"] < 1
    small, large = cases
    assert large["item_codes_mb"] == pytest.approx(2_001 * 4 * 8 / 1e6, abs=0.001)
    assert small["sid_mlp_ratio"] == 1
    assert large["sid_mlp_ratio"] == pytest.approx(large["sid_mlp_ms"] / small["sid_mlp_ms"], abs=0.001)
    assert small["scan_recall_at_50"] > 0.99
    assert [set(small[f"sasrec_batch_{batch}_ms"]) for batch in (1, 8)] == [{EXACT, SCAN}] * 2
    assert report(cases).row_count == len(small) - 1
