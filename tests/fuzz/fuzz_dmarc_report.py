"""Aggregate reports: any octets are a report within bounds or an error of ours."""

from __future__ import annotations

import gzip
import zlib

from postroom.core.errors import Malformed, TooLarge
from postroom.trust.dmarc.reading import A_ROW, MOST_ROWS, read

_PLAIN = (
    b'<?xml version="1.0" encoding="utf-8"?><feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">'
    b"<version>1.0</version><report_metadata><org_name>A</org_name><report_id>1</report_id>"
    b"<date_range><begin>1</begin><end>2</end></date_range><error>no</error></report_metadata>"
    b"<policy_published><domain>a.example</domain><p>none</p></policy_published>"
    b"<record><row><source_ip>192.0.2.1</source_ip><count>3</count><policy_evaluated>"
    b"<disposition>none</disposition><dkim>fail</dkim><spf>pass</spf><reason><type>other</type>"
    b"</reason></policy_evaluated></row><identifiers><header_from>a.example</header_from>"
    b"</identifiers><auth_results><dkim><domain>a.example</domain><selector>s</selector>"
    b"<result>fail</result></dkim><spf><domain>a.example</domain><result>pass</result></spf>"
    b"</auth_results></record></feedback>"
)
SEEDS: list[bytes] = [
    _PLAIN,
    gzip.compress(_PLAIN, mtime=0),
    b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(8) + bytes(4) + bytes(4) + b"\x01\0\0\0a" + b"\x03\0",
    b"<!DOCTYPE feedback [<!ENTITY a 'b'>]><feedback>&a;</feedback>",
    "<feedback/>".encode("utf-16"),
]
TOKENS: list[bytes] = [
    *(b"<record>", b"</record>", b"<row>", b"<count>", b"<source_ip>", b"<feedback>", b"</"),
    *(b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<!DOCTYPE", b"&amp;", b"&#0;", b"&x;", b"xmlns:a="),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"PK\x03\x04", b'encoding="utf-7"', b"2001::"),
]


def one_input(data: bytes) -> None:
    packer = zlib.compressobj(1, wbits=31)
    for content in (data, packer.compress(data) + packer.flush()):
        try:
            report = read(content)
        except (Malformed, TooLarge):
            continue
        assert report.published.domain and report.published.domain.isprintable()
        assert len(report.rows) <= MOST_ROWS
        for row in report.rows:
            assert row.messages >= 0 and row.source_ip
            assert max(len(row.signatures), len(row.senders), len(row.reasons)) <= A_ROW
            assert (row.header_from + row.envelope_from + row.disposition).isprintable()
