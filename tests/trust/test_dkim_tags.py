"""Lists of tags: what is one is told from what is none. RFC 6376 §3.2."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.trust.dkim import tags


@given(st.text("a=;\r\n\t \0\x7fé", max_size=30))
@settings(max_examples=300)
def test_lines_end_in_folds_alone_and_there_are_no_controls(text: str) -> None:
    octets = f"a={text}b".encode()
    unfit = re.search(rb"[^\t\r\n -~\x80-\xff]|\r(?!\n[ \t])|(?<!\r)\n", octets)
    if unfit is not None:
        with pytest.raises(tags.BadTags, match="character"):
            tags.read(octets)
    else:
        try:
            tags.read(octets)
        except tags.BadTags as error:
            assert "character" not in str(error)
