"""Stores for these tests."""

from __future__ import annotations

from tests.stores import stores

__all__ = ["stores"]
