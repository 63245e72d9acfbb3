"""MAIL, RCPT, DATA: the message transaction. RFC 5321 §3.3."""

from __future__ import annotations

from postroom.mailflow.intake import MailFrom
from postroom.protocols.smtp import replies
from postroom.protocols.smtp.commands.greeting import offered
from postroom.protocols.smtp.session import Session, State
from postroom.wire.smtp import Body, Reply, parse_mail, parse_nothing, parse_rcpt


async def mail(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.2."""
    asked = parse_mail(argument, offered=offered(session))
    sender = MailFrom(
        reverse_path=asked.reverse_path,
        declared_size=asked.size or 0,
        utf8=asked.smtputf8,
        eight_bit=asked.body is not Body.SEVEN_BIT,
        binary=asked.body is Body.BINARY,
        envid=asked.envid,
        ret=asked.ret.value if asked.ret is not None else None,
    )
    transit, verdict = await session.intake.mail(session.visit, sender)
    session.apply(verdict.action)
    if verdict.passes:
        session.transit = transit
    return replies.of_verdict(verdict)


async def rcpt(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.3."""
    assert session.transit is not None  # the table let us in: RFC 5321 §4.1.4
    asked = parse_rcpt(argument, utf8=session.transit.utf8, offered=offered(session))
    notify: tuple[str, ...] = ()
    if asked.notify is not None:
        notify = tuple(str(each.name) for each in asked.notify) or ("NEVER",)
    orcpt = f"{asked.orcpt.kind};{asked.orcpt.address}" if asked.orcpt is not None else None
    verdict = await session.intake.rcpt(session.transit, asked.forward_path, notify, orcpt)
    session.apply(verdict.action)
    return replies.of_verdict(verdict)


async def data(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.4. With every recipient refused, nothing is taken: RFC 2920 §3.1."""
    parse_nothing(argument)
    assert session.transit is not None
    if session.state is not State.RCPT:
        return session.service.no_recipients
    if session.transit.binary:
        return replies.BINARY_BY_CHUNKS
    session.intake.spool(session.transit)
    return replies.GO_ON
