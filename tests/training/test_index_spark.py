"""The same SQL text on a real Spark, on one core of this machine."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from models.errors import TrainingError
from tests.training.test_index_jobs import count_by_loop, random_events, transitions, write
from training.data.options import ReadOptions
from training.index_jobs import Resources, build, update
from training.index_spark import count_in_spark

MISSING = [
    *(["no `java` on PATH"] if shutil.which("java") is None else []),
    *(["pyspark is not installed (extra `spark`)"] if importlib.util.find_spec("pyspark") is None else []),
]
SPARK = Resources("spark", memory_mib=1024)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """The session that `count_in_spark` finds: without it, Spark would take all cores and 200 partitions."""
    from pyspark.sql import SparkSession

    settings = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", "spark.driver.host": "localhost"}
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"SPARK IS NOT TESTED HERE: {', '.join(MISSING)}")
def test_spark_counts_what_duckdb_and_a_loop_count(spark: Any, tmp_path: Path) -> None:
    """A build and an update of each engine, to the byte."""
    events, console = random_events(3000, users=200, items=150), Console(quiet=True)
    old, new = write(tmp_path / "old.parquet", events[:2000]), write(tmp_path / "new.parquet", events[2000:])
    found = {}
    for name, resources in (("spark", SPARK), ("duckdb", Resources())):
        index = tmp_path / f"{name}.npz"
        build(old, ReadOptions(), index, resources, console)
        assert transitions(index) == count_by_loop(events[:2000], all_events=False)
        built = index.read_bytes()
        update(new, ReadOptions(), index, index, resources, console)
        assert transitions(index) == count_by_loop(events, all_events=False)
        found[name] = built, index.read_bytes()
    assert found["spark"] == found["duckdb"]


def test_without_java_spark_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with duckdb.connect() as connection, pytest.raises(TrainingError, match="install a Java runtime"):
        count_in_spark(connection, "transitions", work=tmp_path, memory_mib=1024)


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with duckdb.connect() as connection, pytest.raises(TrainingError, match=r"tandem-recommender\[spark\]"):
        count_in_spark(connection, "transitions", work=tmp_path, memory_mib=1024)
