"""Image's tables share this metadata."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.idempotency import idempotency_table

metadata = sa.MetaData()
idempotency = idempotency_table(metadata)
