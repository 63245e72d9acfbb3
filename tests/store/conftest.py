"""Both engines with the whole schema, for what must hold on either."""

from __future__ import annotations

from tests.stores import stores

__all__ = ["stores"]
