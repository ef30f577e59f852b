"""Count transitions on Spark, for events that outgrow one machine: the SQL text is that of `training.index_build`."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from models.errors import TrainingError
from training.index_build import TRANSITIONS_SQL

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def count_in_spark(connection: duckdb.DuckDBPyConnection, table: str, *, work: Path, memory_mib: int) -> None:
    """Make `table` out of `events` as `Count` says; both travel as Parquet files in `work`, which Spark has to see.

    memory_mib: of Spark's driver, which does all the work unless Spark is configured for a cluster.

    Raises:
        TrainingError: pyspark or Java is missing.
    """
    session = _session(memory_mib)
    events, transitions = str(work / f"{table}_events.parquet"), str(work / f"{table}_transitions")
    connection.execute("COPY (SELECT user_id, position, item FROM events) TO $path (FORMAT parquet)", {"path": events})
    session.read.parquet(events).createOrReplaceTempView("events")
    session.sql(TRANSITIONS_SQL).write.parquet(transitions)
    connection.execute(f"CREATE TABLE {table} AS FROM read_parquet($path)", {"path": f"{transitions}/*.parquet"})


def _session(memory_mib: int) -> "SparkSession":
    """The session of this process: Spark's own configuration decides where it runs, by default on all local cores."""
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise TrainingError(
            "the engine spark needs Java 17 or newer, and there is no `java` on PATH and no JAVA_HOME: "
            "install a Java runtime, or take the engine duckdb"
        )
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise TrainingError(
            "the engine spark needs pyspark, which is not installed: pip install 'tandem-recommender[spark]', "
            "or take the engine duckdb"
        ) from error
    builder = SparkSession.builder.appName("tandem index").config("spark.ui.enabled", "false")
    return builder.config("spark.driver.memory", f"{memory_mib}m").getOrCreate()
