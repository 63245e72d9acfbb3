"""Postroom: an all-in-one mail and collaboration server.

The rooms lie on floors (docs/architecture.md); a room imports only from the floors below it.
"""

from typing import Final

__version__: Final = "0.1.0"
