"""Changes: administration that can be taken back.

`Changing` is a change set while its unit runs: an object is touched before it changes, and in the
end what differs is written into the history (`domain.policy.history`). `objects` knows the kinds
of objects and their images, `putting` makes an object what an image says, `revert` takes a change
set back, `whole` deletes and renames with all that hangs on it, `configuration` is everything at
once.

Called by admin. May import: policy, directory, mailboxes, store, formats, core.
"""

from postroom.domain.changes.changing import Changing
from postroom.domain.changes.objects import Kind
from postroom.domain.changes.revert import revert

__all__ = ["Changing", "Kind", "revert"]
