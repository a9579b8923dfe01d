"""MongoDB as a source: decoding, reading and ingesting, beside what the bare driver does.

The server is the one of the tests, which is slow: what counts are the ratios of two readers of it, in turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import measure
from vehins.data import schema as table_schema
from vehins.data.demo import batches as demo_batches
from vehins.data.sources import ReadOptions, open_source
from vehins.data.sources.mongodb.decoding import decoder
from vehins.data.sources.mongodb.reading import FETCHED
from vehins.settings import MongoSettings, RemoteSettings

sys.path.append(str(Path(__file__).parents[1] / "tests" / "servers"))
VEHINS = [sys.executable, "-m", "vehins"]
FEW, MANY = 300_000, 3_000_000
# That server makes all of an answer before it sends the first part of it.
PATIENT = ("--set", "remote.read_timeout=3600")
SCHEMA = table_schema.load("vehicle-insurance")
PATHS = {name: name for name in SCHEMA.kept}


def _documents(rows: int) -> Iterator[list[dict[str, Any]]]:
    """Synthetic customers as documents, some thousand at a time."""
    import polars as pl

    for batch in demo_batches(rows, seed=1):
        for some in batch.select(pl.col("id").alias("_id"), pl.all()).iter_slices(FETCHED):
            yield some.to_dicts()


def _paired(first: Callable[[], None], second: Callable[[], None], runs: int) -> tuple[list[float], list[float]]:
    """Seconds of two functions, in turn; one run of each is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        for function, found in zip((first, second), times, strict=True):
            begin = time.perf_counter()
            function()
            found.append(time.perf_counter() - begin)
    return times[0][1:], times[1][1:]


def _report(title: str, quick: list[float], slow: list[float], rows: int, promise: str) -> None:
    found = sorted(b / a for a, b in zip(quick, slow, strict=True))
    rate = rows / statistics.median(quick)
    extent = f"{found[0]:.2f} to {found[-1]:.2f}"
    print(f"{title:<44} {rate:12,.0f} rows/s   ratio {statistics.median(found):.2f} ({extent})   {promise}")


def _decode(runs: int) -> None:
    """The two readers on batches that are there already."""
    import bson

    raws = [b"".join(map(bson.encode, some)) for some in _documents(200_000)]

    def by(reader: str) -> Callable[[], None]:
        found = decoder(reader, PATHS, SCHEMA, identify=False)
        return lambda: [found.frame(raw) for raw in raws] and None  # type: ignore[func-returns-value]

    arrow, default = _paired(by("arrow"), by("bson"), runs)
    _report("decode with mongo-arrow, beside the default", arrow, default, 200_000, "(promised: at least 2.5)")


def _read(url: str, collection: Any, runs: int) -> None:
    """The source beside a bare loop over the same cursor."""
    import bson

    projection = {"_id": 1} | dict.fromkeys(PATHS, 1)

    def bare() -> None:
        for raw in collection.find_raw_batches({}, projection, sort=[("_id", 1)], batch_size=FETCHED):
            bson.decode_all(raw)

    for reader in ("bson", "arrow"):

        def ours(reader: str = reader) -> None:
            for _ in open_source(
                url, ReadOptions(mongodb=MongoSettings(reader=reader), remote=RemoteSettings(read_timeout=3600))
            ).batches(SCHEMA):
                pass

        mine, theirs = _paired(ours, bare, runs)
        _report(f"read ({reader}), beside bare decode_all", mine, theirs, FEW, "(promised: at least 0.9)")


def _memory(url: str, rows: int, folder: Path) -> None:
    """The whole command, as a process of its own."""
    for reader in ("bson", "arrow"):
        words = ["ingest", "--source", url, "-w", str(folder / "memory"), "--set", f"mongodb.reader={reader}", *PATIENT]
        cost = measure.run([*VEHINS, *words])
        title, rate = f"ingest of {rows:,} ({reader})", rows / cost.seconds
        print(f"{title:<44} {rate:12,.0f} rows/s   peak {cost.peak_mb:,.0f} MB   (promised: at most 350)")


def mongodb(runs: int, folder: Path, _: Path | None) -> None:
    """All of it."""
    from mongodb_server import running_mongodb

    storage = ("--storage-path", str(folder / "storage"), "--oplog-max-entries", "1000")
    with running_mongodb(*storage) as server, server.client() as client:
        url = f"{server.url}/bench?collection=customers"
        collection = client["bench"]["customers"]
        for rows in (FEW, MANY):
            # In processes of their own: the peak of a process counts what the one that starts it had in memory.
            measure.run([*VEHINS, "load", f"demo://?rows={rows}", "--to", url, "--replace", *PATIENT])
            _memory(url, rows, folder)
            if rows == FEW:
                _read(url, collection, runs)
    _decode(runs)
