"""Image's tables share this metadata; its operations stand in the same database as what they change."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.idempotency import idempotency_table
from kilonova.saga.journal import Journal

metadata = sa.MetaData()
journal = Journal(metadata)
idempotency = idempotency_table(metadata)
