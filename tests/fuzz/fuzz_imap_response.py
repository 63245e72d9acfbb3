"""What any server may answer: responses or BadResponse, the same however it is chopped."""

from __future__ import annotations

from postroom.wire.imap import BadResponse, ResponseLimits, ResponseReader

LIMITS = ResponseLimits(line=1 << 16, literal=1 << 16, response=1 << 17, depth=50)


def one_input(data: bytes) -> None:
    whole = _responses([data])
    chopped = _responses([data[at : at + 7] for at in range(0, len(data), 7)])
    assert whole == chopped, "chopping changed the responses"


def _responses(pieces: list[bytes]) -> list[str]:
    reader = ResponseReader(LIMITS)
    seen: list[str] = []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (response := reader.next()) is not None:
                seen.append(repr(response))
        except BadResponse as error:
            return [*seen, str(error)]
    return seen


SEEDS: list[bytes] = [
    b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n+ go ahead\r\na1 OK [READ-WRITE] done\r\n",
    b'* LIST (\\Noselect) "/" ~/Mail/foo\r\n* LIST () "\\\\" {3}\r\na b\r\n* SEARCH 1 2 3\r\n',
    b'* 1 FETCH (FLAGS (\\Seen \\*) BODY[HEADER.FIELDS (A "]")]<0> {4}\r\na\r\nb '
    b'ENVELOPE (NIL "x"))\r\n',
    b"* 1 FETCH (BINARY[1] ~{2}\r\n\0x MODSEQ (5))\r\n* VANISHED (EARLIER) 1:3\r\n* BYE\r\n",
    b'* ESEARCH (TAG "a") UID COUNT 3 ALL 1:3\r\n'
    b"a NO [BADCHARSET (UTF-8)] x\r\n* THREAD (1)(2 (3)(4))\r\n",
    b'* ESEARCH (TAG "a") UID REMOVEFROM (0 32768) ADDTO (1 2731:2733,7 3 9)\r\n'
    b'* NO [NOUPDATE "a"] Too many\r\n',
    b"* OK [COPYUID 1 2:3 4] {5}\r\na BAD [odd\r\n",
]
TOKENS: list[bytes] = [b"{3}\r\n", b"~{3}\r\n", b"BODY[", b"]<0>", b"\r\n* ", b"\\*", b"NIL", b"+ "]
