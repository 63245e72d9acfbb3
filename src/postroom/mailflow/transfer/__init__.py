"""Mail from and to other servers' files: Maildir and mbox, in and out, with a receipt.

Called by admin. May import the floors below. `maildir` and `mbox` read sources as folders of
items, `names` says into which mailboxes they go, `importing` brings them in through the domain;
`exporting` reads an account and hands it to `maildir_out` or `mbox_out`. `receipt` is what remains
of each run: a line for each message.

What is read is hostile: links and devices are not followed, nothing is held but one batch. Files
that are walked belong to other programs, which may deliver while we read.
"""

from postroom.mailflow.transfer.exporting import Exported, export_maildir, export_mbox
from postroom.mailflow.transfer.importing import Asked, Imported, bring
from postroom.mailflow.transfer.items import Source
from postroom.mailflow.transfer.maildir import open_maildir
from postroom.mailflow.transfer.maildir_out import MaildirOut
from postroom.mailflow.transfer.mbox import open_mbox
from postroom.mailflow.transfer.mbox_out import MboxOut
from postroom.mailflow.transfer.receipt import Line, Receipt
from postroom.mailflow.transfer.targets import make_folder
from postroom.mailflow.transfer.threads import in_thread

__all__ = [
    "Asked",
    "Exported",
    "Imported",
    "Line",
    "MaildirOut",
    "MboxOut",
    "Receipt",
    "Source",
    "bring",
    "export_maildir",
    "export_mbox",
    "in_thread",
    "make_folder",
    "open_maildir",
    "open_mbox",
]
