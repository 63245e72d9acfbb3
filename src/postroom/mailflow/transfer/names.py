"""Into which mailbox a folder of another server goes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

from postroom.domain.mailboxes import folders
from postroom.domain.mailboxes.folders import DEPTH, INBOX, NAME_OCTETS, SEPARATOR
from postroom.formats.folding import nfc
from postroom.formats.maildir import Path

# What servers and clients have called these folders, by role; within one, the likelier first.
# Dovecot, Courier and RFC 6154; MDaemon; Exchange and Outlook; Apple; Gmail; Thunderbird; Horde
# and Roundcube; then as Outlook and Thunderbird name them in other languages.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "sent": (
        "Sent", "Sent Items", "Sent Messages", "Sent Mail", "sent-mail", "Sent-Items",
        "[Gmail]/Sent Mail", "[Google Mail]/Sent Mail", "[Gmail]/Gesendet", "Outbox/Sent",
        "Gesendet", "Gesendete Elemente", "Gesendete Objekte", "Gesendete Nachrichten",
        "Envoyés", "Éléments envoyés", "Messages envoyés", "Enviados", "Elementos enviados",
        "Mensagens enviadas", "Itens enviados", "Posta inviata", "Inviata", "Inviati",
        "Verzonden", "Verzonden items", "Skickat", "Skickade objekt", "Sendt", "Sendte elementer",
        "Wysłane", "Elementy wysłane", "Odeslaná pošta", "Отправленные", "送信済み",
        "送信済みアイテム", "已发送", "已发送邮件",
    ),
    "drafts": (
        "Drafts", "Draft", "[Gmail]/Drafts", "[Google Mail]/Drafts", "[Gmail]/Entwürfe",
        "Entwürfe", "Entwurf", "Brouillons", "Borradores", "Rascunhos", "Bozze", "Concepten",
        "Utkast", "Kladder", "Szkice", "Kopie robocze", "Koncepty", "Rozepsané", "Черновики",
        "下書き", "草稿",
    ),
    "trash": (
        "Trash", "Deleted Items", "Deleted Messages", "Deleted", "Bin", "Rubbish", "Wastebasket",
        "[Gmail]/Trash", "[Gmail]/Bin", "[Google Mail]/Trash", "[Google Mail]/Bin",
        "[Gmail]/Papierkorb",
        "Papierkorb", "Gelöschte Elemente", "Gelöschte Objekte", "Corbeille",
        "Éléments supprimés", "Papelera", "Elementos eliminados", "Lixeira", "Lixo",
        "Itens excluídos", "Cestino", "Posta eliminata", "Prullenbak", "Verwijderde items",
        "Papperskorg", "Borttaget", "Papirkurv", "Slettede elementer", "Kosz",
        "Elementy usunięte", "Koš", "Odstraněná pošta", "Корзина", "Удаленные", "ゴミ箱",
        "削除済みアイテム", "已删除", "已删除邮件",
    ),
    "junk": (
        "Junk", "Spam", "Junk E-mail", "Junk Email", "Junk E-Mail", "Junk Mail", "Bulk Mail",
        "Bulk", "Suspected Spam", "[Gmail]/Spam", "[Google Mail]/Spam",
        "Junk-E-Mail", "Unerwünscht", "Spamverdacht", "Werbung", "Courrier indésirable",
        "Indésirables", "Pourriel", "Correo no deseado", "Lixo eletrônico", "Posta indesiderata",
        "Ongewenste e-mail", "Ongewenst", "Skräppost", "Søppelpost", "Uønsket e-post",
        "Wiadomości-śmieci", "Nevyžádaná pošta", "Спам", "Нежелательная почта", "迷惑メール",
        "垃圾邮件",
    ),
    "archive": (
        "Archive", "Archives", "Archiv", "Archivo", "Archivos", "Arquivo", "Archivio", "Archief",
        "Arkiv", "Archiwum", "Архив", "アーカイブ", "归档",
    ),
}  # fmt: skip


def _folded(name: str) -> str:
    return nfc(name).casefold()


_ROLES: Final = {
    _folded(name): (role, rank) for role, names in _NAMES.items() for rank, name in enumerate(names)
}


def targets(paths: Iterable[Path], own: Mapping[str, str], into: str = "") -> dict[Path, str]:
    """The mailbox for each folder.

    `own` are the account's mailboxes with a special use, by role: the folder whose name is the
    likeliest for one goes there, another one for the same goes under its own name. With `into`
    all lie below that mailbox, as they are named; what is INBOX there is that mailbox itself.
    """
    found: dict[Path, str] = {}
    best: dict[str, tuple[int, Path]] = {}
    for path in paths:
        plain = path[1:] if path and path[0].upper() == INBOX else path
        if into:
            found[path] = SEPARATOR.join((folders.canonical(into), *_fitting(plain)))
            continue
        found[path] = folders.canonical(SEPARATOR.join(_fitting(path or (INBOX,))))
        role, rank = _ROLES.get(_folded(SEPARATOR.join(path)), ("", 0))
        if role in own and (role not in best or (rank, path) < best[role]):
            best[role] = (rank, path)
    for role, (_, path) in best.items():
        found[path] = own[role]
    return found


def _fitting(path: Path) -> Path:
    """The names as a mailbox may have them: folders.split takes them."""
    names = [_fitting_name(name) for name in path]
    if len(names) > DEPTH - 1:  # one for what they are put into
        names = [*names[: DEPTH - 2], _fitting_name("-".join(names[DEPTH - 2 :]))]
    return tuple(names)


def _fitting_name(name: str) -> str:
    plain = "".join(
        "_" if c == SEPARATOR or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c
        for c in nfc(name)
    )
    short = plain.encode()[:NAME_OCTETS].decode(errors="ignore").strip()
    return short or "_"
