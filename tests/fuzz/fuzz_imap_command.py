"""What any client may send: events, arguments, and nothing but BadSyntax; bounded memory."""

from __future__ import annotations

from dataclasses import replace

from postroom.wire.imap import (
    GRAMMAR,
    SIGNED_IN,
    Append,
    AppendMessage,
    BadLine,
    BadSyntax,
    Budget,
    Command,
    CommandPart,
    Cursor,
    Fetch,
    FetchBinarySize,
    FetchBody,
    LiteralChunk,
    NeedLiteral,
    Parts,
    Receiver,
    Status,
    Then,
    mailbox_name,
    parse_append_more,
    parse_parts,
    sasl_response,
)
from postroom.wire.imap.events import Line

BUDGET = 256 << 10
LIMITS = replace(SIGNED_IN, line=8192, literal=4096, literals_total=16384, append=1 << 20)


def one_input(data: bytes) -> None:
    """The input whole and in chunks gives the same; every command is read."""
    whole = _events([data])
    chopped = _events([data[at : at + 7] for at in range(0, len(data), 7)])
    assert whole == chopped, "chopping changed the events"


def _events(pieces: list[bytes]) -> list[str]:
    receiver = Receiver(Budget(BUDGET), LIMITS)
    seen: list[str] = []
    before = AppendMessage()
    streamed = 0
    for piece in pieces:
        receiver.feed(piece)
        while (event := receiver.next()) is not None:
            assert receiver.buffered == receiver.budget.used <= BUDGET
            if isinstance(event, LiteralChunk):
                streamed += len(event.data)
                continue
            if isinstance(event, NeedLiteral):
                (receiver.reject if event.size % 5 == 4 else receiver.accept)()
            elif isinstance(event, Command):
                before = _command(receiver, event, seen)
                continue
            elif isinstance(event, CommandPart):
                before = _part(receiver, event, before, seen)
                continue
            elif isinstance(event, Line):
                _line(event)
            elif isinstance(event, BadLine):
                assert event.sentence
            seen.append(repr(event))
    return [*seen, str(streamed)]


def _command(receiver: Receiver, command: Command, seen: list[str]) -> AppendMessage:
    message = AppendMessage()
    try:
        arguments = GRAMMAR[command.name](command.args)
    except (BadSyntax, KeyError) as error:
        seen.append(f"{command.tag!r} {command.name!r} {error!r}")
        if command.more:
            receiver.reject()
        return message
    seen.append(f"{command.tag!r} {command.name!r} {arguments!r}")
    if isinstance(arguments, Fetch):
        for item in arguments.items:
            if isinstance(item, FetchBody | FetchBinarySize):
                assert item.label().isascii()
                assert b"\r" not in item.label()
                assert b"\n" not in item.label()
    elif isinstance(arguments, Status):
        mailbox_name(arguments.mailbox)
    elif isinstance(arguments, Append):
        message = arguments.message
        if message.catenate:
            seen.append(repr(_parts(command.args)))
    elif command.more:
        receiver.reject()
    if command.name in (b"IDLE", b"AUTHENTICATE"):
        receiver.expect_line()
    if command.name == b"ENABLE":
        receiver.utf8 = True
    return message


def _parts(args: Cursor) -> Parts | None:
    try:
        return parse_parts(args)
    except BadSyntax:
        return None


def _part(
    receiver: Receiver, part: CommandPart, before: AppendMessage, seen: list[str]
) -> AppendMessage:
    try:
        if before.catenate:
            seen.append(repr(parse_parts(part.args, Then.TEXT)))
            return before
        message = parse_append_more(part.args, before)
    except BadSyntax as error:
        seen.append(repr(error))
        if part.more:
            receiver.reject()
        return AppendMessage()
    seen.append(repr(message))
    return message or AppendMessage()


def _line(line: Line) -> None:
    try:
        sasl_response(line.data)
    except BadSyntax:
        return


SEEDS: list[bytes] = [
    b"a CAPABILITY\r\nb NOOP\r\nc LOGOUT\r\n",
    b'a LOGIN {3+}\r\nann "p\\"w"\r\nb ENABLE CONDSTORE UTF8=ACCEPT\r\nc SELECT caf\xc3\xa9\r\n',
    b"a AUTHENTICATE PLAIN AGEAYg==\r\nAGEAYg==\r\nb IDLE\r\nDONE\r\n",
    b'a ID ("name" "x" "version" NIL)\r\nb NAMESPACE\r\n',
    b"a SELECT INBOX (CONDSTORE QRESYNC (1 2 3:4,7 (1,2 3:4)))\r\n"
    b"b CREATE &U,BTFw- (USE (\\Sent))\r\n",
    b'a RENAME a b\r\nb DELETE x\r\nc SUBSCRIBE x\r\nd UNSUBSCRIBE x\r\ne LSUB "" *\r\n',
    b'a LIST (SUBSCRIBED RECURSIVEMATCH) "" (% INBOX) RETURN (STATUS (SIZE) CHILDREN)\r\n',
    b"a STATUS x (MESSAGES UIDNEXT HIGHESTMODSEQ MAILBOXID)\r\n"
    b'b GETQUOTAROOT x\r\nc GETQUOTA ""\r\n',
    b'a APPEND {1}\r\nx (\\Seen) " 7-Feb-1994 21:52:25 -0800" {5+}\r\na\r\nb. {3}\r\nabc\r\n',
    b'a APPEND x CATENATE (URL "/x/;UID=1" TEXT {3+}\r\nabc URL {1+}\r\nx URL "y")\r\n',
    b"a APPEND x UTF8 (~{5+}\r\na\0\r\nb)\r\nb NOOP\r\n",
    b'a UID FETCH 1:*,5,$ (UID FLAGS BODY.PEEK[1.2.HEADER.FIELDS (A "b")]<0.9> PREVIEW (LAZY)) '
    b"(CHANGEDSINCE 5 VANISHED)\r\nb FETCH 1 FULL\r\nc FETCH 2:3 (BINARY[1] BINARY.SIZE[2])\r\n",
    b"a STORE 1:2,*:9 (UNCHANGEDSINCE 9) +FLAGS.SILENT (\\Seen $x)\r\nb UID MOVE 1 x\r\n",
    b"a UID SEARCH RETURN (MIN SAVE) CHARSET UTF-8 "
    b"OR NOT (SEEN 1:*) FROM {1+}\r\nx SINCE 1-Feb-1994\r\n",
    b'a SEARCH MODSEQ "/flags/x" all 5 HEADER a b OLDER 5 UID $ KEYWORD x EMAILID M1\r\n',
    b"a UID SORT (REVERSE DATE) UTF-8 ALL\r\nb THREAD REFERENCES UTF-8 UNSEEN\r\n",
    b"a UID SEARCH RETURN (PARTIAL -1:-100 SAVE) ALL\r\n"
    b"b UID FETCH 1:* (FLAGS) (PARTIAL 1:30 CHANGEDSINCE 9)\r\n",
    b"a UID SEARCH RETURN (UPDATE (UID BODY[HEADER.FIELDS (TO)]) CONTEXT COUNT) UNSEEN\r\n"
    b'b SORT RETURN (update PARTIAL 1:5) (DATE) UTF-8 ALL\r\nc CANCELUPDATE "a" "b"\r\n',
    b'a GETMETADATA (DEPTH 1 MAXSIZE 9) "" (/shared/a "/private/b")\r\n'
    b'b GETMETADATA x (DEPTH infinity) /shared\r\nc LIST "" x RETURN (METADATA (/shared/a))\r\n',
    b'a SETMETADATA x (/shared/a ~{3+}\r\na\0b /private/b NIL /private/c {1+}\r\n" "/x" "")\r\n',
    b"a NOTIFY NONE\r\nb NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS"
    b" (TO)]) MessageExpunge FlagChange)) (subtree (x {1+}\r\ny) (MailboxName)) (inboxes NONE)\r\n",
    b"a ESEARCH UNSEEN\r\nb ESEARCH IN (selected subtree-one (x {1+}\r\ny) mailboxes z) "
    b"RETURN (COUNT PARTIAL 1:5) SUBJECT x\r\n",
    b'a GENURLAUTH "imap://a@b/x/;UID=1;URLAUTH=anonymous" INTERNAL {1+}\r\ny XSAMPLE\r\n'
    b"b RESETKEY\r\nc RESETKEY x INTERNAL y\r\nd URLFETCH {1+}\r\nx y {0+}\r\n\r\n",
    b"a LOGIN {5000+}\r\n" + b"x" * 5000 + b" {3+}\r\nabc\r\nb NOOP\r\n",
    b"a SEARCH " + b"x" * 8200 + b" {3+}\r\nabc\r\nb NOOP\r\n",
]
TOKENS: list[bytes] = [
    *(b"{3+}\r\n", b"{4}\r\n", b"~{3+}\r\n", b"{9999+}\r\n", b"\r\na APPEND x ", b"\r\na SEARCH "),
    *(b"UID ", b"NOT ", b"OR ", b"RETURN (", b"BODY[", b"HEADER.FIELDS (", b"1:*", b"$", b"&AOQ-"),
    *(b"DEPTH ", b"MAXSIZE ", b"/shared/", b"/private/", b"METADATA ("),
    *(b"UPDATE ", b"UPDATE (", b"CONTEXT ", b"PARTIAL ", b"\r\na CANCELUPDATE "),
    *(b"CHARSET ", b"NIL", b"(CHANGEDSINCE 1", b"\\Seen", b"ENABLE x\r\n", b" 1-Feb-1994"),
]
