"""postroom.formats.preview: the author's first words, RFC 8970."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats.mime import scan
from postroom.formats.preview import PREVIEW_MAX, html_text, preview
from postroom.testing.scaling import grows_linearly


def of(raw: bytes | str) -> str:
    data = raw.encode() if isinstance(raw, str) else raw
    return preview(data, scan(data))


def text(body: str) -> str:
    return of("Content-Type: text/plain; charset=utf-8\n\n" + body)


def html(body: str) -> str:
    return of("Content-Type: text/html; charset=utf-8\n\n" + body)


def test_words_of_plain_text_with_single_spaces() -> None:
    assert text("Hello,\n\n  this\tis   me.\r\n") == "Hello, this is me."


def test_at_most_200_characters() -> None:
    assert text("grüß " * 100) == ("grüß " * 40).rstrip()
    assert len(text("x" * 5_000)) == PREVIEW_MAX


def test_quotations_their_first_line_and_the_signature_are_left_out() -> None:
    body = "On Monday Ann wrote:\n> old\n>> older\n\nMy answer.\n> more\nAnd this.\n-- \nBob\n"
    assert text(body) == "My answer. And this."


def test_a_line_that_ends_in_a_colon_stays_without_a_quotation() -> None:
    assert text("The list:\n- one\n") == "The list: - one"


def test_nothing_but_quotations_shows_them() -> None:
    assert text("> old\n> words\n") == "old words"


def test_a_long_quotation_before_the_answer_is_skipped() -> None:
    assert text("> old\n" * 1_000 + "Yes.\n") == "Yes."


def test_plain_text_wins_over_html() -> None:
    raw = (
        "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>html"
        "\n--b\nContent-Type: text/plain\n\nplain\n--b--\n"
    )
    assert of(raw) == "plain"


def test_attachments_and_attached_messages_come_last() -> None:
    attached = "--b\nContent-Disposition: attachment\n\nfile\n"
    message = "--b\nContent-Type: message/rfc822\n\nSubject: x\n\ninside\n"
    head = "Content-Type: multipart/mixed; boundary=b\n\n"
    page = "--b\nContent-Type: text/html\n\n<b>page</b>\n"
    assert of(head + attached + message + page + "--b--") == "page"
    assert of(head + attached + message + "--b--") == "file"
    assert of("Content-Type: image/png\n\nxxxx") == ""


def test_transfer_encodings_and_charsets_are_decoded() -> None:
    head = b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: "
    assert of(head + b"quoted-printable\n\ngr=FC=\n=DF gott") == "grüß gott"
    assert of(head + b"base64\n\n" + base64.encodebytes("grüß".encode("latin-1") * 900)) == (
        "grüß" * 50
    )
    assert of(b"Content-Type: text/plain; charset=nonsense\n\n\xff\xfeabc") != ""


def test_a_character_cut_in_two_at_16_kib_leaves_no_mark() -> None:
    assert "\ufffd" not in text("> " + "ü" * 20_000)


def test_html_is_reduced_to_its_text() -> None:
    body = (
        "<!doctype html><html><head><title>No</title><style>p{x:'</p>'}</style></head><body>"
        "<!-- <p>no --><script>if (a<b) no()</script>"
        "<p>Fish &amp; chips &lt;now&gt; &euro;5 &#8364;6 &#x20AC;7</p><div>next<br>line</div>"
    )
    assert html(body) == "Fish & chips <now> €5 €6 €7 next line"


def test_a_quotation_in_html_is_left_out() -> None:
    assert html("<div>Yes.</div><blockquote>old<p>older</p></blockquote><p>Bye</p>") == "Yes. Bye"


def test_source_line_breaks_and_padding_are_no_words() -> None:
    assert html("<p>a\n&gt; b</p>") == "a > b"
    assert html("<p>Sale</p>" + "&#847;&zwnj;&nbsp;" * 50 + "<p>today</p>") == "Sale today"


def test_a_lone_angle_is_text_and_broken_markup_ends_it() -> None:
    assert html_text("1 < 2") == "1 < 2"
    assert html_text("a<b class='x") == "a"
    assert html_text("a<!-- b") == "a"
    assert html_text("a<style>b") == "a"


@pytest.mark.parametrize("entity", ["&#0;", "&#xD800;", "&#x110000;", "&#9999999;"])
def test_impossible_characters_become_the_mark_for_them(entity: str) -> None:
    assert html(f"a{entity}b") == "a\ufffdb"


def test_a_number_of_a_thousand_digits_is_text() -> None:
    assert html("&#" + "9" * 5_000 + ";").startswith("\ufffd99")


@given(
    st.sampled_from([b"text/plain", b"text/html"]),
    st.sampled_from([b"7bit", b"base64", b"quoted-printable", b"x-uuencode"]),
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [
                    *b"< > <!-- --> <p> <script> </script> <blockquote> &amp; &# 99 ; =3D".split(),
                    *(b"\n", b"> x", b"-- ", b"\xc3", b" ", b"a"),
                ]
            ),
            max_size=40,
        ).map(b"".join),
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_body_gives_a_line_of_text(kind: bytes, encoding: bytes, body: bytes) -> None:
    head = b"Content-Type: " + kind + b"\nContent-Transfer-Encoding: " + encoding + b"\n\n"
    found = of(head + body)
    assert len(found) <= PREVIEW_MAX
    assert found == " ".join(found.split())
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in found)
    found.encode("utf-8")  # no lone surrogate


@pytest.mark.parametrize(
    "piece",
    ["<", "<!--", "<a", "<script>", '<a "', "&#9", "</style", "<blockquote>", "> \n", "-->"],
)
def test_attack_06_hostile_markup_costs_linear_time(piece: str) -> None:
    assert grows_linearly(html_text, piece * 5_000, piece * 20_000, 4)
