"""The serving house of tests/mailflow, from the line's side, with all its doors."""

from tests.mailflow.conftest import doors, doors_both, mx, mx_both, stores

__all__ = ["doors", "doors_both", "mx", "mx_both", "stores"]
