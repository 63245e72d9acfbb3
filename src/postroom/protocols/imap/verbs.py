"""The table of commands: which may come in which state. RFC 3501 §6, RFC 9051 §6."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from postroom.domain.mailboxes.rights import NONE, Right
from postroom.protocols.imap.commands import (
    acl,
    anytime,
    append,
    compress,
    context,
    copy,
    fetch,
    language,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    replace,
    search,
    selecting,
    signin,
    sort,
    store,
    thread,
    urlauth,
)
from postroom.protocols.imap.session import Session, State
from postroom.wire.imap import Command

Run = Callable[[Session, Command], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table: a command says its tagged reply itself."""

    run: Run
    when: frozenset[State]
    needs: Right = Right.READ  # in the mailbox that is open, of commands that need one: RFC 4314
    expunge: bool = True  # may removals be told after it: not after FETCH, STORE, SEARCH


ALWAYS: Final = frozenset({State.NOT_SIGNED_IN, State.SIGNED_IN, State.SELECTED})
STRANGER: Final = frozenset({State.NOT_SIGNED_IN})
SIGNED_IN: Final = frozenset({State.SIGNED_IN, State.SELECTED})
SELECTED: Final = frozenset({State.SELECTED})
# As COPY, STORE \\Deleted and EXPUNGE: RFC 6851 §4.4.
MOVES: Final = Right.READ | Right.DELETE_MESSAGES | Right.EXPUNGE

VERBS: Final = {
    # any state: RFC 3501 §6.1
    b"CAPABILITY": Verb(anytime.capability, ALWAYS),
    b"NOOP": Verb(anytime.noop, ALWAYS),
    b"LOGOUT": Verb(anytime.logout, ALWAYS),
    b"ID": Verb(anytime.id_, ALWAYS),  # RFC 2971
    b"LANGUAGE": Verb(language.language, ALWAYS),  # RFC 5255
    # not authenticated: RFC 3501 §6.2
    b"STARTTLS": Verb(signin.starttls, STRANGER),
    b"AUTHENTICATE": Verb(signin.authenticate, STRANGER),
    b"LOGIN": Verb(signin.login, STRANGER),
    # authenticated: RFC 3501 §6.3
    b"ENABLE": Verb(signin.enable, SIGNED_IN),  # RFC 5161
    b"COMPRESS": Verb(compress.compress, SIGNED_IN),  # RFC 4978
    b"UNAUTHENTICATE": Verb(signin.unauthenticate, SIGNED_IN),  # RFC 8437
    b"SELECT": Verb(selecting.select, SIGNED_IN),
    b"EXAMINE": Verb(selecting.examine, SIGNED_IN),
    b"CREATE": Verb(mailboxes.create, SIGNED_IN),
    b"DELETE": Verb(mailboxes.delete, SIGNED_IN),
    b"RENAME": Verb(mailboxes.rename, SIGNED_IN),
    b"SUBSCRIBE": Verb(mailboxes.subscribe, SIGNED_IN),
    b"UNSUBSCRIBE": Verb(mailboxes.unsubscribe, SIGNED_IN),
    b"LIST": Verb(mailboxes.list_, SIGNED_IN),
    b"LSUB": Verb(mailboxes.lsub, SIGNED_IN),
    b"NAMESPACE": Verb(mailboxes.namespace, SIGNED_IN),  # RFC 2342
    b"STATUS": Verb(mailboxes.status, SIGNED_IN),
    b"SETACL": Verb(acl.setacl, SIGNED_IN),  # RFC 4314
    b"DELETEACL": Verb(acl.deleteacl, SIGNED_IN),
    b"GETACL": Verb(acl.getacl, SIGNED_IN),
    b"LISTRIGHTS": Verb(acl.listrights, SIGNED_IN),
    b"MYRIGHTS": Verb(acl.myrights, SIGNED_IN),
    b"GETQUOTA": Verb(quota.getquota, SIGNED_IN),  # RFC 9208
    b"GETQUOTAROOT": Verb(quota.getquotaroot, SIGNED_IN),
    b"GETMETADATA": Verb(metadata.getmetadata, SIGNED_IN),  # RFC 5464
    b"SETMETADATA": Verb(metadata.setmetadata, SIGNED_IN),
    b"APPEND": Verb(append.append, SIGNED_IN),
    b"IDLE": Verb(anytime.idle, SIGNED_IN),  # RFC 2177
    b"NOTIFY": Verb(notify.notify, SIGNED_IN),  # RFC 5465
    b"ESEARCH": Verb(multisearch.esearch, SIGNED_IN),  # RFC 7377
    b"GENURLAUTH": Verb(urlauth.genurlauth, SIGNED_IN),  # RFC 4467
    b"RESETKEY": Verb(urlauth.resetkey, SIGNED_IN),
    b"URLFETCH": Verb(urlauth.urlfetch, SIGNED_IN),
    # selected: RFC 3501 §6.4; what each needs in that mailbox: RFC 4314 §4
    b"CHECK": Verb(anytime.noop, SELECTED, needs=NONE),
    b"CANCELUPDATE": Verb(context.cancelupdate, SELECTED, needs=NONE),  # RFC 5267
    b"CLOSE": Verb(selecting.close, SELECTED, needs=NONE),
    b"UNSELECT": Verb(selecting.unselect, SELECTED, needs=NONE),  # RFC 3691
    b"EXPUNGE": Verb(copy.expunge, SELECTED, needs=Right.READ | Right.EXPUNGE),
    b"SEARCH": Verb(search.search, SELECTED, expunge=False),
    b"FETCH": Verb(fetch.fetch, SELECTED, expunge=False),
    b"STORE": Verb(store.store, SELECTED, expunge=False),
    b"COPY": Verb(copy.copy, SELECTED),
    b"MOVE": Verb(copy.move, SELECTED, needs=MOVES),  # RFC 6851
    b"REPLACE": Verb(replace.replace, SELECTED, needs=MOVES),  # RFC 8508
    b"SORT": Verb(sort.sort, SELECTED, expunge=False),  # RFC 5256
    b"THREAD": Verb(thread.thread, SELECTED, expunge=False),
    b"UID EXPUNGE": Verb(copy.uid_expunge, SELECTED, needs=Right.READ | Right.EXPUNGE),  # RFC 4315
    b"UID SEARCH": Verb(search.search, SELECTED),
    b"UID SORT": Verb(sort.sort, SELECTED),
    b"UID THREAD": Verb(thread.thread, SELECTED),
    b"UID FETCH": Verb(fetch.fetch, SELECTED),
    b"UID STORE": Verb(store.store, SELECTED),
    b"UID COPY": Verb(copy.copy, SELECTED),
    b"UID MOVE": Verb(copy.move, SELECTED, needs=MOVES),
    b"UID REPLACE": Verb(replace.replace, SELECTED, needs=MOVES),
}
