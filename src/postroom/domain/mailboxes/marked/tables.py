"""The table of changed flags, and every statement on it."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index

from postroom.store.schema import BYTES, INT, MAIL, column, narrow
from postroom.store.sql import Picking, sql

# A placement says which flags a message came with; what became of them since is here, in a row for
# 64 UIDs: `blocks`. To mark 10,000 messages so writes 160 rows and not 10,000. It is the log of
# changed flags too, which needs no pruning: who asks for changes looks through the rows that
# changed. A message whose flags never changed has no part in it.
FLAG_BLOCK = narrow(
    "flag_block",
    MAIL,
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE"), primary_key=True),
    column("block", INT, primary_key=True),  # uid / 64
    column("modseq", INT),  # the highest in it
    column("marked", INT),  # which of the 64 it speaks of: the placement's flags count no more
    column("unseen", INT),  # which of those are not \Seen
    column("groups", BYTES),
    Index("flag_block_changed", "mailbox", "modseq"),
)

PUT_BLOCK = sql("""
    INSERT INTO flag_block (mailbox, block, modseq, marked, unseen, groups)
    VALUES (:mailbox, :block, :modseq, :marked, :unseen, :groups)
    ON CONFLICT (mailbox, block) DO UPDATE SET modseq = excluded.modseq,
        marked = excluded.marked, unseen = excluded.unseen, groups = excluded.groups
""")
DROP_BLOCK = sql("DELETE FROM flag_block WHERE mailbox = :mailbox AND block = :block")
BLOCKS = Picking(
    "SELECT block, groups FROM flag_block WHERE mailbox = :mailbox AND <pick> ORDER BY block",
    "block",
)
BLOCKS_FROM = sql("""
    SELECT block, groups FROM flag_block
    WHERE mailbox = :mailbox AND block >= :first ORDER BY block LIMIT :limit
""")
BLOCK_ROWS_FROM = sql("""
    SELECT block, groups, modseq, marked, unseen FROM flag_block
    WHERE mailbox = :mailbox AND block >= :first ORDER BY block LIMIT :limit
""")
BLOCKS_UNSEEN = sql("""
    SELECT block, marked, unseen FROM flag_block
    WHERE mailbox = :mailbox AND block >= :first ORDER BY block LIMIT :limit
""")
BLOCKS_CHANGED = sql("""
    SELECT block, groups FROM flag_block
    WHERE mailbox = :mailbox AND block BETWEEN :first AND :last AND modseq > :since
    ORDER BY block
""")
CHANGED_BLOCKS = sql("""
    SELECT block FROM flag_block WHERE mailbox = :mailbox AND modseq > :since ORDER BY block
""")
