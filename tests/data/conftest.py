"""What the tests of sources and sinks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redshift_data_double

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from s3_client import Bucket


@pytest.fixture
def store(bucket: Bucket) -> Bucket:
    """An empty bucket."""
    return bucket


@pytest.fixture
def redshift_data(store: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[redshift_data_double.RedshiftData]:
    """What answers instead of Redshift's Data API, without a table yet."""
    tables: dict[str, pl.DataFrame] = {}
    with redshift_data_double.serving(store.client, tables) as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", double.url)
        yield double
