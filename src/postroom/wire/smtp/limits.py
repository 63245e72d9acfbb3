"""The sizes and times of RFC 5321 §4.5.3, and the caps that this codec puts beside them.

Sizes are octets and include the CRLF where a line is meant; times are seconds.
"""

from __future__ import annotations

from typing import Final

# --- what every implementation must take: RFC 5321 §4.5.3.1 ------------------------------

LOCAL_PART: Final = 64  # RFC 5321 §4.5.3.1.1
DOMAIN: Final = 255  # RFC 5321 §4.5.3.1.2
PATH: Final = 256  # RFC 5321 §4.5.3.1.3, with its angle brackets
COMMAND_LINE: Final = 512  # RFC 5321 §4.5.3.1.4; each extension adds to it
REPLY_LINE: Final = 512  # RFC 5321 §4.5.3.1.5
TEXT_LINE: Final = 1_000  # RFC 5321 §4.5.3.1.6; a doubled dot is not counted
MESSAGE_CONTENT: Final = 65_536  # RFC 5321 §4.5.3.1.7: a server takes at least this
RECIPIENTS: Final = 100  # RFC 5321 §4.5.3.1.8: a server takes at least these

# --- how far we go beyond it -------------------------------------------------------------

COMMAND_LINE_CAP: Final = 4_096  # 512 and all that the extensions add, with room
AUTH_LINE_CAP: Final = 12_288  # RFC 4954 §4: the least that an exchange must take
REPLY_LINE_CAP: Final = 4_096  # some servers write essays; RFC 5321 §4.5.3.1.5 says 512
REPLY_LINES_CAP: Final = 100  # lines in one reply
DISCARD_CAP: Final = 65_536  # an overlong line is waited out up to here, then given up

ENVID: Final = 100  # RFC 3461 §4.4, in its xtext form
ORCPT: Final = 500  # RFC 3461 §4.2, in its xtext form
ORCPT_UTF8: Final = 2_048  # RFC 6533 §3 writes a character as up to ten octets
MECHANISM: Final = 20  # RFC 4422 §3.1
SIZE_DIGITS: Final = 20  # RFC 1870 §3; RFC 3030 §2 sets none for BDAT

# --- how long a client waits: RFC 5321 §4.5.3.2 --------------------------------------------

GREETING_TIMEOUT: Final = 300.0  # RFC 5321 §4.5.3.2.1
MAIL_TIMEOUT: Final = 300.0  # RFC 5321 §4.5.3.2.2
RCPT_TIMEOUT: Final = 300.0  # RFC 5321 §4.5.3.2.3
DATA_TIMEOUT: Final = 120.0  # RFC 5321 §4.5.3.2.4: for the 354
BLOCK_TIMEOUT: Final = 180.0  # RFC 5321 §4.5.3.2.5: for each write to go out
END_TIMEOUT: Final = 600.0  # RFC 5321 §4.5.3.2.6: after the final dot; shorter duplicates mail

# --- how long a server waits ---------------------------------------------------------------

SERVER_TIMEOUT: Final = 300.0  # RFC 5321 §4.5.3.2.7: for the next command
