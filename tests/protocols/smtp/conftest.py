"""The serving house of tests/mailflow, from the line's side."""

from tests.mailflow.conftest import mx, mx_both, stores

__all__ = ["mx", "mx_both", "stores"]
