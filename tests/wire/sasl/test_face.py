"""The public face of the package."""

from __future__ import annotations

import types

from postroom.wire import sasl


def test_the_export_list_is_what_can_be_imported() -> None:
    public = {
        name
        for name, value in vars(sasl).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - {"annotations"} == set(sasl.__all__)
    assert len(sasl.__all__) == len(set(sasl.__all__))
