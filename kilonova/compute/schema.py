"""Compute's database: one metadata for all its nouns' tables, and the journal of its operations."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.idempotency import idempotency_table
from kilonova.saga.journal import Journal

metadata = sa.MetaData()
journal = Journal(metadata)
idempotency = idempotency_table(metadata)
