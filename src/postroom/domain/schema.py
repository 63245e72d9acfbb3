"""The whole schema, and the numbered steps that lead to it.

Importing this module declares every table of every room, so it is the place from which a
store is created, checked and migrated.
"""

from __future__ import annotations

from typing import Final

from postroom.domain.audit import tables as _audit
from postroom.domain.copies import tables as _copies
from postroom.domain.directory import tables as _directory
from postroom.domain.feedback import tables as _feedback
from postroom.domain.jobs import tables as _jobs
from postroom.domain.mailboxes import tables as _mailboxes
from postroom.domain.mailboxes.annotated import tables as _annotated
from postroom.domain.mailboxes.claimed import tables as _claimed
from postroom.domain.mailboxes.marked import tables as _marked
from postroom.domain.mailboxes.shares import tables as _shares
from postroom.domain.mailboxes.urlkeys import tables as _urlkeys
from postroom.domain.policy import tables as _policy
from postroom.domain.queue import tables as _queue
from postroom.domain.reported import tables as _reported
from postroom.domain.searching import tables as _searching
from postroom.domain.signing import tables as _signing
from postroom.domain.trace import tables as _trace
from postroom.store import sweeper
from postroom.store import tables as _store
from postroom.store.schema import INDEX, MAIL, STATE, Step, ddl

ROOMS: Final = (
    _store,
    _annotated,
    _audit,
    _claimed,
    _copies,
    _directory,
    _feedback,
    _jobs,
    _mailboxes,
    _marked,
    _policy,
    _queue,
    _reported,
    _searching,
    _shares,
    _signing,
    _trace,
    _urlkeys,
)

# Before the first release the first step follows the declared tables. With the first release
# its text is frozen here, and a test compares what the steps build with what is declared.
MAIL_STEPS: Final = (Step(1, "first", tuple(ddl(MAIL, "sqlite")), tuple(ddl(MAIL, "postgresql"))),)
STATE_STEPS: Final = (
    Step(1, "first", tuple(ddl(STATE, "sqlite")), tuple(ddl(STATE, "postgresql"))),
)
INDEX_STEPS: Final = (
    Step(1, "first", tuple(ddl(INDEX, "sqlite")), tuple(ddl(INDEX, "postgresql"))),
)

SWEEP: Final = sweeper.statements(MAIL)
