"""Both engines with the whole schema, for what must hold on either."""

from __future__ import annotations

from tests.tables import (
    postgres_emptied,
    postgres_tables,
    sqlite_emptied,
    sqlite_template,
    stores,
)

__all__ = ["postgres_emptied", "postgres_tables", "sqlite_emptied", "sqlite_template", "stores"]
