"""Sizes of lines, in octets with their CRLF, and the caps that this codec puts beside them."""

from __future__ import annotations

from typing import Final

COMMAND_LINE: Final = 255  # RFC 2449 §4
REPLY_LINE: Final = 512  # RFC 2449 §4

COMMAND_LINE_CAP: Final = 4_096  # a long pass phrase, an initial response
AUTH_LINE_CAP: Final = 16_392  # what sasl.LONGEST is in base64: RFC 5034 §4 sets no limit
RESPONSE_LINE_CAP: Final = 16_392  # what a client takes: a challenge is as long
DISCARD_CAP: Final = 65_536  # an overlong line is waited out up to here, then given up

NUMBER_DIGITS: Final = 10
"""Of a message number or a count of lines; no maildrop and no message has more."""

MECHANISM: Final = 20  # RFC 4422 §3.1
