"""MongoDB: the documents of a collection, in the order of their ``_id``, decoded batch by batch."""

from __future__ import annotations

from vehins.data.sources import ReadOptions
from vehins.data.sources.mongodb import query
from vehins.data.sources.mongodb.probing import CHECKS as CHECKS
from vehins.data.sources.mongodb.probing import columns as columns
from vehins.data.sources.mongodb.probing import probe as probe
from vehins.data.sources.mongodb.source import MongoSource
from vehins.remote import mongodb

SUMMARY = "`mongodb://HOST/DATABASE?collection=NAME` (MongoDB; `mongodb+srv://...` too)"
matches = mongodb.matches


def open_source(url: str, options: ReadOptions) -> MongoSource:
    """Take address and query apart; nobody is asked yet."""
    return MongoSource(url, mongodb.parse(url), query.chosen(options.query), options)
