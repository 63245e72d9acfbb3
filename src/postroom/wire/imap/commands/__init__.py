"""What each command takes: a frozen dataclass and a function that reads it, by family.

A parse function takes the cursor as `Command.args` gives it, before the first space, and
raises BadSyntax. GRAMMAR is the whole table; an extension adds a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from postroom.wire.imap.commands.acl import (
    OneIdentifier,
    OneMailbox,
    SetAcl,
    parse_acl_mailbox,
    parse_identifier,
    parse_setacl,
)
from postroom.wire.imap.commands.append import Append, parse_append
from postroom.wire.imap.commands.fetch import Fetch, parse_fetch, parse_uid_fetch
from postroom.wire.imap.commands.language import ChooseLanguage, parse_language
from postroom.wire.imap.commands.mailboxes import (
    Create,
    Delete,
    GetQuota,
    GetQuotaRoot,
    List,
    Lsub,
    Rename,
    Select,
    SetQuota,
    Status,
    Subscribe,
    Unsubscribe,
    parse_create,
    parse_delete,
    parse_getquota,
    parse_getquotaroot,
    parse_list,
    parse_lsub,
    parse_rename,
    parse_select,
    parse_setquota,
    parse_status,
    parse_subscribe,
    parse_unsubscribe,
)
from postroom.wire.imap.commands.messages import (
    Copy,
    Store,
    UidExpunge,
    parse_copy,
    parse_store,
    parse_uid_expunge,
)
from postroom.wire.imap.commands.metadata import (
    GetMetadata,
    SetMetadata,
    parse_getmetadata,
    parse_setmetadata,
)
from postroom.wire.imap.commands.multisearch import MultiSearch, parse_esearch
from postroom.wire.imap.commands.notify import Notify, parse_notify
from postroom.wire.imap.commands.replace import Replace, parse_replace
from postroom.wire.imap.commands.search import (
    CancelUpdate,
    Search,
    Sort,
    Thread,
    parse_cancelupdate,
    parse_search,
    parse_sort,
    parse_thread,
)
from postroom.wire.imap.commands.signin import (
    Authenticate,
    Compress,
    Enable,
    Id,
    Login,
    Nothing,
    parse_authenticate,
    parse_compress,
    parse_enable,
    parse_id,
    parse_login,
    parse_nothing,
)
from postroom.wire.imap.commands.urlauth import (
    GenUrlAuth,
    ResetKey,
    UrlFetch,
    parse_genurlauth,
    parse_resetkey,
    parse_urlfetch,
)
from postroom.wire.imap.cursor import Cursor

Arguments: TypeAlias = (
    Append | Authenticate | Compress | Copy | Create | Delete | Enable | Fetch | GetQuota
    | GetQuotaRoot | Id | List | Login | Lsub | Nothing | OneIdentifier | OneMailbox | Rename
    | Replace | Search | MultiSearch | Notify | ChooseLanguage
    | Select | SetAcl | SetQuota | Sort | Status | Store | Subscribe | Thread | UidExpunge
    | Unsubscribe | CancelUpdate | GetMetadata | SetMetadata | GenUrlAuth | ResetKey | UrlFetch
)  # fmt: skip

GRAMMAR: Final[Mapping[bytes, Callable[[Cursor], Arguments]]] = {
    # any state: RFC 9051 §6.1
    b"CAPABILITY": parse_nothing,
    b"NOOP": parse_nothing,
    b"LOGOUT": parse_nothing,
    b"ID": parse_id,  # RFC 2971
    b"LANGUAGE": parse_language,  # RFC 5255
    # not authenticated: §6.2
    b"STARTTLS": parse_nothing,
    b"AUTHENTICATE": parse_authenticate,
    b"LOGIN": parse_login,
    # authenticated: §6.3
    b"COMPRESS": parse_compress,
    b"ENABLE": parse_enable,
    b"UNAUTHENTICATE": parse_nothing,  # RFC 8437
    b"SELECT": parse_select,
    b"EXAMINE": parse_select,
    b"CREATE": parse_create,
    b"DELETE": parse_delete,
    b"RENAME": parse_rename,
    b"SUBSCRIBE": parse_subscribe,
    b"UNSUBSCRIBE": parse_unsubscribe,
    b"LIST": parse_list,
    b"LSUB": parse_lsub,  # RFC 3501 §6.3.9
    b"NAMESPACE": parse_nothing,
    b"STATUS": parse_status,
    b"APPEND": parse_append,
    b"IDLE": parse_nothing,
    b"SETACL": parse_setacl,  # RFC 4314
    b"DELETEACL": parse_identifier,
    b"GETACL": parse_acl_mailbox,
    b"LISTRIGHTS": parse_identifier,
    b"MYRIGHTS": parse_acl_mailbox,
    b"GETQUOTA": parse_getquota,  # RFC 9208
    b"GETQUOTAROOT": parse_getquotaroot,
    b"SETQUOTA": parse_setquota,
    b"GETMETADATA": parse_getmetadata,  # RFC 5464
    b"SETMETADATA": parse_setmetadata,
    b"NOTIFY": parse_notify,  # RFC 5465
    b"ESEARCH": parse_esearch,  # RFC 7377
    b"GENURLAUTH": parse_genurlauth,  # RFC 4467
    b"RESETKEY": parse_resetkey,
    b"URLFETCH": parse_urlfetch,
    # selected: §6.4
    b"CHECK": parse_nothing,  # RFC 3501 §6.4.1
    b"CANCELUPDATE": parse_cancelupdate,  # RFC 5267
    b"CLOSE": parse_nothing,
    b"UNSELECT": parse_nothing,
    b"EXPUNGE": parse_nothing,
    b"SEARCH": parse_search,
    b"FETCH": parse_fetch,
    b"STORE": parse_store,
    b"COPY": parse_copy,
    b"MOVE": parse_copy,
    b"REPLACE": parse_replace,  # RFC 8508
    b"SORT": parse_sort,  # RFC 5256
    b"THREAD": parse_thread,
    b"UID EXPUNGE": parse_uid_expunge,
    b"UID SEARCH": parse_search,
    b"UID FETCH": parse_uid_fetch,
    b"UID STORE": parse_store,
    b"UID COPY": parse_copy,
    b"UID MOVE": parse_copy,
    b"UID REPLACE": parse_replace,
    b"UID SORT": parse_sort,
    b"UID THREAD": parse_thread,
}
"""Every command that is read here, by its name in upper case with its UID."""
