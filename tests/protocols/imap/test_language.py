"""LANGUAGE: what people are told is said in a language of theirs. RFC 5255 §3, RFC 4647 §3.4."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import postroom
from postroom.protocols.imap.languages import (
    ENGLISH,
    GERMAN,
    I_DEFAULT,
    LANGUAGES,
    Catalogue,
    chosen,
    german,
)
from postroom.server.answers import DISMISSED
from postroom.testing.imap import ImapClient, Reply
from postroom.testing.scaling import grows_linearly
from postroom.wire.imap import Value
from tests.protocols.imap.serving import ANN, PASSWORD, Room, client_context, message


def _catalogue() -> Catalogue:
    assert GERMAN.catalogue is not None
    return GERMAN.catalogue


def _tags(reply: Reply) -> list[str]:
    (told,) = reply["LANGUAGE"]
    ((listed),) = told.data
    assert isinstance(listed, tuple)
    return [bytes(each).decode() for each in listed if isinstance(each, bytes)]


async def _speak(client: ImapClient, wanted: str = "DE") -> Reply:
    reply = await client.command(f"LANGUAGE {wanted}")
    assert reply.ok, reply
    return reply


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("signed_in", [False, True])
async def test_without_arguments_the_languages_are_listed_and_none_is_chosen(
    room: Room, signed_in: bool
) -> None:
    client = await (room.client() if signed_in else room.connect())
    reply = await client.command("LANGUAGE")
    assert reply.ok
    assert _tags(reply) == ["EN", "DE", "i-default"]
    assert (await client.command("NOOP")).text == "Done"


@pytest.mark.parametrize("signed_in", [False, True])
async def test_the_answer_itself_is_in_the_new_language(room: Room, signed_in: bool) -> None:
    client = await (room.client() if signed_in else room.connect())
    reply = await _speak(client)
    assert _tags(reply) == ["DE"]
    assert reply.text == "Das ist jetzt die Sprache"
    assert (await client.command("XYZZY")).text == "Diesen Befehl gibt es nicht"
    back = await _speak(client, "i-default")
    assert _tags(back) == ["i-default"]
    assert back.text == "This is the language now"


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        ("DE", "DE"),
        ("de-CH-1996", "DE"),
        ('"de-at"', "DE"),
        ("FR IT de EN", "DE"),
        ("en-GB", "EN"),
        ("DEFAULT", "i-default"),
        ('FR "*"', "i-default"),
        ("de-x-here", "DE"),
    ],
)
async def test_the_first_range_that_fits_is_chosen(room: Room, wanted: str, tag: str) -> None:
    client = await room.connect()
    assert _tags(await _speak(client, wanted)) == [tag]


async def test_what_nobody_speaks_here_is_refused_and_the_language_stays(room: Room) -> None:
    client = await room.connect()
    reply = await client.command("LANGUAGE FR deu")
    assert (reply.kind, reply["LANGUAGE"]) == ("NO", [])
    assert reply.text == "None of these languages is spoken here"
    await _speak(client)
    reply = await client.command("LANGUAGE FR")
    assert reply.kind == "NO"
    assert reply.text == "Keine dieser Sprachen wird hier gesprochen"


async def test_a_language_that_was_chosen_stays_after_sign_in(room: Room) -> None:
    client = await room.connect()
    await _speak(client)
    wrong = await client.login(ANN, "wrong")
    assert (wrong.kind, wrong.code) == ("NO", "AUTHENTICATIONFAILED")
    assert wrong.text == "Die Anmeldedaten sind ungültig"
    assert (await client.login(ANN, PASSWORD)).text == "Angemeldet"


async def test_what_was_chosen_before_tls_counts_no_more(room: Room) -> None:
    """RFC 5255 §3.1 and §7: whoever sat in between may have chosen."""
    client = await room.connect("imap")
    await _speak(client)
    reply = await client.starttls(client_context())
    assert reply.text == "Beginnen Sie jetzt mit TLS"
    assert (await client.command("NOOP")).text == "Done"


async def test_the_next_one_to_sign_in_begins_in_english(room: Room) -> None:
    client = await room.client()
    await _speak(client)
    assert (await client.command("UNAUTHENTICATE")).text == "Signed out"
    assert (await client.command("NOOP")).text == "Done"


async def test_each_session_has_its_own_language(room: Room) -> None:
    client, other = await room.client(), await room.client()
    await _speak(client)
    assert (await other.command("NOOP")).text == "Done"


# --- what is said ---------------------------------------------------------------------------------


async def test_responses_of_all_kinds_are_in_german(room: Room) -> None:
    await room.deliver(message())
    await room.create("Entwürfe")
    client = await room.client()
    await _speak(client)
    opened = await client.command("SELECT INBOX")
    assert opened.text == "Postfach geöffnet: INBOX"
    assert opened.code == "READ-WRITE"
    assert "Die nächste UID" in [each.text.decode() for each in opened.untagged if each.code]
    looked = await client.command("EXAMINE Entw&APw-rfe")
    assert looked.text == "Postfach zum Lesen geöffnet: Entwürfe"
    assert (await client.command("SELECT Nowhere")).text == "Dieses Postfach gibt es nicht"
    assert (await client.command("SELECT")).text == "Es fehlt ein Leerzeichen"
    assert (await client.command("FETCH 1 [")).text == "Das geht in diesem Zustand nicht"
    client.send(b"a IDLE\r\n")
    assert await client.continuation() == b"wartet"
    client.send(b"DONE\r\n")
    assert (await client.reply(b"a")).text == "Wartet nicht mehr"
    client.send(b"b CREATE {4}\r\n")
    assert await client.continuation() == b"weiter"
    client.send(b"Made\r\n")
    assert (await client.reply(b"b")).text == "Angelegt"
    bye = await client.command("LOGOUT")
    assert bye.text == "Abgemeldet"
    assert [each.text for each in bye["BYE"]] == [b"Auf Wiedersehen"]


async def test_without_a_language_texts_are_ascii(room: Room) -> None:
    """RFC 3501 §9, `resp-text`: UTF-8 is for those who chose a language, RFC 5255 §3.5."""
    await room.create("Entwürfe")
    client = await room.client()
    assert (await client.command("SELECT Entw&APw-rfe")).text == "Selected Entw?rfe"


async def test_prefixes_of_namespaces_are_translated_for_people(room: Room) -> None:
    """RFC 5255 §3.4; in modified UTF-7, RFC 5255 §3.5."""

    def told(reply: Reply) -> tuple[Value, ...]:
        (line,) = reply["NAMESPACE"]
        return line.data

    own: Value = ((b"", b"/"),)
    client = await room.client()
    assert told(await client.command("NAMESPACE")) == (
        own,
        ((b"Shared/", b"/"),),
        ((b"Public/", b"/"),),
    )
    translated = (
        own,
        ((b"Shared/", b"/", b"TRANSLATION", (b"Freigegeben/",)),),
        ((b"Public/", b"/", b"TRANSLATION", (b"&ANY-ffentlich/",)),),
    )
    assert told(await _speak(client)) == translated
    assert told(await client.command("NAMESPACE")) == translated
    assert told(await _speak(client, "EN"))[1] == ((b"Shared/", b"/"),)
    assert not (await _speak(client, "i-default"))["NAMESPACE"]  # nothing changed
    stranger = await room.connect()
    assert not (await _speak(stranger))["NAMESPACE"]


# --- choosing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "found"),
    [
        (["de"], GERMAN),
        (["DE-Latn-AT"], GERMAN),
        (["en-a-bb"], ENGLISH),
        (["i-default"], I_DEFAULT),
        (["i-default-x"], I_DEFAULT),
        (["default"], I_DEFAULT),
        (["*"], I_DEFAULT),
        (["fr", "*"], I_DEFAULT),
        (["*", "de"], GERMAN),
        (["*", "fr"], None),
        (["i"], None),
        (["fr", "nl"], None),
        (["*-CH"], None),
        (["den"], None),
        ([], None),
    ],
)
def test_lookup(ranges: list[str], found: object) -> None:
    assert chosen(ranges) is found


def test_i_default_is_among_them_and_is_ascii() -> None:
    """RFC 5255 §3.1, RFC 2277 §4.5."""
    assert I_DEFAULT in LANGUAGES
    assert I_DEFAULT.catalogue is None
    assert all(sentence.isascii() for sentence in german.TOLD)


# --- the catalogue --------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.text())
def test_what_a_person_named_is_copied_and_never_looked_at(name: str) -> None:
    """Braces, sentences and patterns in it are mere text."""
    assert _catalogue().say(f"Selected {name}") == f"Postfach geöffnet: {name}"


@pytest.mark.parametrize("name", ["{mailbox}", "{0}", "1 of 2, please wait", "Selected x", "Done"])
def test_names_that_look_like_what_is_said(name: str) -> None:
    assert _catalogue().say(f"Examined {name}") == f"Postfach zum Lesen geöffnet: {name}"


def test_a_number_of_things_done() -> None:
    assert _catalogue().say("5 of 10, please wait") == "5 von 10, bitte warten Sie"


def test_what_is_not_known_is_said_in_english() -> None:
    assert _catalogue().say("A mouse ate it") == "A mouse ate it"


def test_no_sentence_is_taken_for_another_one() -> None:
    """No template fits what has a German of its own, nor what another one made."""
    bare = Catalogue({}, german.TEMPLATES, {})
    for sentence in german.TOLD:
        assert bare.say(sentence) == sentence
    for template in german.TEMPLATES:
        others = {each: "" for each in german.TEMPLATES if each != template}
        filled = re.sub(r"\{\w+\}", "7", template)
        assert Catalogue({}, others, {}).say(filled) == filled


@pytest.mark.parametrize("template", german.TEMPLATES)
def test_what_anybody_named_stands_last_in_a_template(template: str) -> None:
    assert template.count("{name}") == template.endswith("{name}")


def test_saying_takes_linear_time() -> None:
    catalogue = _catalogue()
    for head, more in (("1", "1"), ("Selected ", "Selected "), ("x", "x"), ("1 of 1", "1 of 1")):
        small, large = (head + more * n for n in (2_000, 40_000))
        assert grows_linearly(catalogue.say, small, large, times=20)


def test_translations_are_sentences_that_fit_on_a_line() -> None:
    for said in german.TOLD.values():
        assert said == said.strip()
        assert said
        assert said.isprintable()
        assert len(said) < 200


# --- the code has no sentence that is not in the catalogue ----------------------------------------

SOURCE = Path(postroom.__file__).parent
SAID_BY = ("protocols/imap", "wire/imap")
ACCESS = tuple(f"access/{each}.py" for each in ("attempts", "authenticator", "conversations"))
RAISED_BY = ("core/errors.py", "domain/mailboxes", "mailflow/binary.py", *ACCESS, "wire/sasl")
# What checks settings, what reads another server's answers, and the translations.
LEFT = {"settings.py", "responses.py", "german.py"}
SAYING = {"tell", "finish", "status", "status_line", "go_on", "continuation", "refuse", "_end"}
SAYING |= {"BadLine", "_token"}
FAULTS = {"AssertionError", "RuntimeError", "TypeError", "ValueError"}
"""Errors of the code itself: they are logged, and nobody is told."""
ENDINGS = {"expect": "{} is missing", "unexpected": "{} is not known here"}
"""Functions of the parser whose argument is how a sentence begins."""
ELSEWHERE = {DISMISSED, "There is no such account"}  # of server/answers, domain/directory/people
UNSAID = {
    "TLS failed",  # for the log
    "Searches for strings, by what the index said",  # the help of a metric
    "LIST with \\NonExistent",  # names of an enumeration
    "LIST with \\NoAccess",
}
SENTENCE = re.compile(r"(?:[A-Z]|\{\})\S* .*[a-z]")


def _text(node: ast.AST) -> str | None:
    """A literal string, with `{}` for what is filled in."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.Constant(value=bytes(raw)):
            return raw.decode("latin-1")
        case ast.JoinedStr(values=values):
            return "".join(
                "{}" if isinstance(v, ast.FormattedValue) else _text(v) or "" for v in values
            )
    return None


def _branches(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.IfExp):
        yield from _branches(node.body)
        yield from _branches(node.orelse)
    else:
        yield node


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _said(tree: ast.Module) -> Iterator[str]:
    """All that could be a sentence, and whatever is given to a function that speaks."""
    passed: set[int] = set()  # docstrings, parts of others, what asserts say
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed.update(map(id, node.values))
        elif isinstance(node, ast.Call):
            name = _called(node)
            given = [each for arg in node.args for each in _branches(arg)]
            if name in FAULTS:
                passed.update(map(id, given))
            elif name in ENDINGS:
                passed.update(map(id, given))
                yield from (ENDINGS[name].format(_text(each)) for each in given)
            elif name in SAYING:
                texts = ((each, _text(each)) for each in given)
                # A status response's kind is no sentence, nor is a code in octets.
                yield from (
                    text
                    for each, text in texts
                    if text
                    and isinstance(each, ast.Constant | ast.JoinedStr)
                    and not (isinstance(each, ast.Constant) and isinstance(each.value, bytes))
                    and not text.isupper()
                )
    for node in ast.walk(tree):
        text = None if id(node) in passed else _text(node)
        if text is not None and SENTENCE.match(text) and not _is_octets(node):
            yield text


def _is_octets(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)


def _raised(tree: ast.Module) -> Iterator[str]:
    """What errors say: of their class, and as they are raised."""
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id="sentence"), value=ast.AST() as value):
                yield from filter(None, map(_text, _branches(value)))
            case ast.Assign(targets=[ast.Name(id="sentence")], value=value):
                yield from filter(None, map(_text, _branches(value)))
            case ast.Assign(targets=[ast.Name(id="text")], value=value):
                yield from filter(None, map(_text, _branches(value)))
            case ast.Raise(exc=ast.Call(args=[first, *_]) as call):
                if _called(call) not in FAULTS:
                    yield from filter(None, map(_text, _branches(first)))


def _trees(places: tuple[str, ...]) -> Iterator[ast.Module]:
    for place in places:
        path = SOURCE / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            if file.name not in LEFT:
                yield ast.parse(file.read_text("utf-8"))


def _sentences() -> set[str]:
    said = {text for tree in _trees(SAID_BY) for text in (*_said(tree), *_raised(tree))}
    raised = {text for tree in _trees(RAISED_BY) for text in _raised(tree)}
    return (said | raised | ELSEWHERE) - UNSAID - set(ENDINGS.values())


def test_every_sentence_of_the_code_has_its_german() -> None:
    found = _sentences()
    assert len(found) > 250  # else it looked in the wrong place
    catalogue = _catalogue()
    missing = [text for text in found if catalogue.say(filled := text.replace("{}", "7")) == filled]
    assert sorted(missing) == []


def test_the_catalogue_holds_nothing_that_is_said_no_more() -> None:
    assert sorted(german.TOLD.keys() - _sentences()) == []
