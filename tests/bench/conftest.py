"""Puts the project's root on the path: `bench` is a package there, beside `src`.

This folder has no `__init__.py`, so that it is never taken for that package.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
