"""ARC: what those who forwarded a message vouch for. RFC 8617.

`read` takes the sets of a header, the body is hashed as for DKIM, `verify` asks for the keys. No
socket, no clock, no store: those who call bring them.
"""

from __future__ import annotations

from postroom.trust.arc.chain import MOST_SETS, ArcSet
from postroom.trust.arc.result import ArcCode, ArcResult
from postroom.trust.arc.verify import Chain, read, verify

__all__ = ["MOST_SETS", "ArcCode", "ArcResult", "ArcSet", "Chain", "read", "verify"]
