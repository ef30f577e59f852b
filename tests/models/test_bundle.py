"""Opening, verifying and refusing bundles."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.bundle import MANIFEST, Bundle, newest_version
from models.errors import BundleError
from training.publish import Parts, next_version


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


def test_what_was_published_is_what_opens(bundle: Bundle, parts: Parts) -> None:
    assert bundle.identity == "tiny@1"
    assert bundle.catalogue.item_ids == parts.catalogue.item_ids
    np.testing.assert_array_equal(bundle.catalogue.codes, parts.catalogue.codes)
    np.testing.assert_array_equal(bundle.popularity, parts.popularity)
    assert bundle.catalogue.attributes(7) == {"title": "Thing 6", "price": 6.0}
    assert bundle.catalogue.index_of("T006") == 7
    assert bundle.catalogue.item_id(7) == "T006"
    assert bundle.catalogue.index_of("unheard of") is None


def test_every_file_is_listed(bundle: Bundle) -> None:
    on_disk = {p.relative_to(bundle.path).as_posix() for p in bundle.path.rglob("*") if p.is_file()}
    assert on_disk == set(bundle.manifest.files) | {MANIFEST}


def test_one_flipped_bit_anywhere_is_refused(copy: Path) -> None:
    for name in Bundle.open(copy).manifest.files:
        path = copy / name
        original = path.read_bytes()
        position = len(original) // 2
        path.write_bytes(original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
        with pytest.raises(BundleError, match=f"{path.name}.* sha256"):
            Bundle.open(copy)
        path.write_bytes(original)
    Bundle.open(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "tiger.onnx").unlink()
    with pytest.raises(BundleError, match=r"tiger\.onnx is listed in the manifest but missing"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema 2, got 99"),
        ({"items": "many"}, "does not follow schema 2"),
        ({"surprise": 1}, "does not follow schema 2"),
        ({"items": 61}, "promises 61 items, got 60"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copy: Path, change: dict[str, object], message: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**manifest, **change}))
    with pytest.raises(BundleError, match=message):
        Bundle.open(copy)


def test_a_manifest_that_is_not_json_is_refused(copy: Path) -> None:
    (copy / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="must be a JSON object"):
        Bundle.open(copy)


def test_the_newest_version_is_taken_by_number(copy: Path, tmp_path: Path) -> None:
    for version in ("2", "10"):
        shutil.copytree(copy, tmp_path / "many" / version)
    assert newest_version(tmp_path / "many") == tmp_path / "many" / "10"
    assert next_version(tmp_path / "many") == 11
    with pytest.raises(BundleError, match="has neither"):
        newest_version(tmp_path)


def test_a_manifest_from_before_int8_opens(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    for entry in manifest["graphs"].values():
        del entry["int8"]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert all(entry.int8 is None for entry in Bundle.open(copy).manifest.graphs.values())
