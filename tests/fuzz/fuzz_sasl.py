"""Hostile peers of a SASL exchange: nobody gets in, nobody is believed, and nothing breaks."""

from __future__ import annotations

from postroom.core.errors import Corrupt, Malformed
from postroom.wire.sasl import (
    BindingMismatch,
    ScramClient,
    ScramServer,
    Verifier,
    parse_answer,
    parse_client_final,
    parse_client_first,
    parse_oauthbearer,
    parse_plain,
    parse_server_final,
    parse_server_first,
    parse_verifier,
    parse_xoauth2,
    password_octets,
)

# Messages of one exchange, a line for each.
SEEDS: list[bytes] = [
    b"n,,n=user,r=abc\nc=biws,r=abcdef,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"y,a=ann=40a.example,n=user,r=abc,x=1\nc=biws,r=abcdef,x=1,p=AAAA",
    b"p=tls-server-end-point,,n=us=3Der=2C,r=abc\nc=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAAAA,r=abc,p=A",
    b"r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096\nv=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    b"r=abcdef,s=AA==,i=4097,z=1\ne=other-error",
    b"\0ann@a.example\0correct horse\nacting\0ann\0\xc3\xa4",
    b"SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$aaaa:bbbb",
    b"n,a=ann=2Cb@a.example,\x01host=mail.a.example\x01port=143\x01auth=Bearer dF9.4\x01\x01",
    b"user=ann@a.example\x01auth=Bearer ya29.a0\x01\x01",
    b"I\xc2\xadX\n\xe2\x85\xa8\n\xd8\xa71",
]
TOKENS: list[bytes] = [
    *(b"n,,", b"y,,", b"p=tls-server-end-point,,", b"p=tls-unique,,", b"a=", b"n=", b"r=", b"m="),
    *(b"=2C", b"=3D", b"=2c", b"c=", b"biws", b",p=", b"s=", b"i=", b"4096", b"v=", b"e="),
    *(b"\x01", b"\x01\x01", b"auth=Bearer ", b"user=", b"host="),
    *(b"=", b"==", b"AAAA", b"SCRAM-SHA-1$", b"$", b":", b"\n", b"\xe3\x80\x80", b"\xef\xb7\xba"),
]

_VERIFIER = Verifier.of(b"never guessed", b"0123456789abcdef", 1)
_BINDING = bytes(32)


def one_input(data: bytes) -> None:
    lines = data.split(b"\n", 8)
    for line in lines:
        _readers(line)
    for plus, binding in ((False, b""), (True, _BINDING), (False, _BINDING)):
        _as_client(lines, plus=plus, binding=binding)
    client = ScramClient("SCRAM-SHA-256", "user", "never guessed", "abc")
    for line in lines[:3]:
        if not _is_long(line):
            client.step(line)
    assert not client.done


def _is_long(line: bytes) -> bool:
    """A count that the client would take, and the fuzzer has no time for."""
    try:
        return parse_server_first(line).iterations > 5000
    except Malformed:
        return False


def _readers(line: bytes) -> None:
    for parse in (parse_oauthbearer, parse_xoauth2):
        try:
            bearer = parse(line)
        except Malformed:
            continue
        again = bearer.oauthbearer() if parse is parse_oauthbearer else bearer.xoauth2()
        assert parse(again) == bearer
    for read in (parse_client_first, parse_client_final, parse_server_first, parse_server_final):
        try:
            said = read(line)
        except Malformed:
            continue
        assert read(said.render()).render() == said.render()
    try:
        assert parse_plain(line).render() == line
    except Malformed:
        pass
    text = line.decode("utf-8", "replace")
    try:
        verifier = parse_verifier(text)
        assert parse_verifier(verifier.text()) == verifier
    except Corrupt:
        pass
    try:
        password_octets(parse_answer(line))
    except Malformed:
        pass


def _as_client(lines: list[bytes], *, plus: bool, binding: bytes) -> None:
    try:
        server = ScramServer(parse_client_first(lines[0]), plus=plus, binding=binding)
    except (Malformed, BindingMismatch):
        return
    server.challenge(_VERIFIER, "def")
    for line in lines[1:]:
        try:
            assert server.finish(line) is None
        except (Malformed, BindingMismatch):
            pass
