"""What the server says, in German. Each key is the sentence as the code has it.

A test reads the code for sentences that are missing here. Terms: mailbox is Postfach, message
Nachricht, command Befehl, keyword Stichwort, right Recht, part Teil, section Abschnitt.
"""

from __future__ import annotations

from typing import Final

TOLD: Final = {
    # --- a session begins and ends ---
    "Postroom is ready": "Postroom ist bereit",
    "Goodbye": "Auf Wiedersehen",
    "Signed in": "Angemeldet",
    "Signed out": "Abgemeldet",
    "Please sign in again": "Bitte melden Sie sich neu an",
    "You were silent for too long": "Sie haben sich zu lange nicht gemeldet",
    "Too many errors": "Zu viele Fehler",
    "Too many connections, try again later": (
        "Zu viele Verbindungen, bitte versuchen Sie es später noch einmal"
    ),
    "The server is shutting down": "Der Server wird beendet",
    "An administrator closed this session": "Ein Administrator hat diese Sitzung beendet",
    "Something went wrong here; it is in the log": (
        "Hier ist etwas schiefgegangen; es steht im Protokoll des Servers"
    ),
    "Begin TLS now": "Beginnen Sie jetzt mit TLS",
    "TLS is active already": "TLS ist schon aktiv",
    "TLS is not available": "TLS ist nicht verfügbar",
    "Nothing may follow STARTTLS before TLS": "Auf STARTTLS darf vor TLS nichts folgen",
    "Nothing may follow COMPRESS before its answer": (
        "Auf COMPRESS darf vor der Antwort nichts folgen"
    ),
    "Compressed from here on": "Ab hier komprimiert",
    "The connection is compressed already": "Die Verbindung ist schon komprimiert",
    "There is no such compression": "Diese Kompression gibt es nicht",
    "A compressed connection is not handed on": (
        "Eine komprimierte Verbindung wird nicht weitergegeben"
    ),
    "The compressed stream is damaged": "Der komprimierte Datenstrom ist beschädigt",
    "Cancelled": "Abgebrochen",
    "Enabled": "Eingeschaltet",
    "Capabilities told": "Fähigkeiten genannt",
    "Nice to meet you": "Sehr erfreut",
    "Done": "Erledigt",
    "The languages told": "Sprachen genannt",
    "This is the language now": "Das ist jetzt die Sprache",
    "None of these languages is spoken here": "Keine dieser Sprachen wird hier gesprochen",
    "There is no such command": "Diesen Befehl gibt es nicht",
    "Not in this state": "Das geht in diesem Zustand nicht",
    "go on": "weiter",
    "idling": "wartet",
    "No longer idle": "Wartet nicht mehr",
    "IDLE ends with DONE": "IDLE endet mit DONE",
    # --- mailboxes ---
    "These are kept": "Diese bleiben erhalten",
    "The first unseen message": "Die erste ungelesene Nachricht",
    "UIDs are valid": "Die UIDs gelten",
    "The next UID": "Die nächste UID",
    "The highest modseq": "Die höchste Änderungsnummer",
    "The mailbox's id": "Die Kennung des Postfachs",
    "That mailbox is closed": "Jenes Postfach ist geschlossen",
    "The mailbox was deleted": "Das Postfach wurde gelöscht",
    "Closed": "Geschlossen",
    "Unselected": "Verlassen",
    "Created": "Angelegt",
    "Deleted": "Gelöscht",
    "Renamed": "Umbenannt",
    "Subscribed": "Abonniert",
    "Unsubscribed": "Abbestellt",
    "Listed": "Aufgelistet",
    "The separator told": "Trennzeichen genannt",
    "Namespaces told": "Namensräume genannt",
    "Status told": "Stand genannt",
    "QRESYNC was not enabled": "QRESYNC wurde nicht eingeschaltet",
    "No such mailbox": "Dieses Postfach gibt es nicht",
    "Create that mailbox first": "Legen Sie dieses Postfach zuerst an",
    "A mailbox of that name is there": "Ein Postfach dieses Namens gibt es schon",
    "Mailboxes lie below this one": "Unter diesem Postfach liegen weitere",
    "Mailboxes do not nest that deep": "So tief lassen sich Postfächer nicht schachteln",
    "A mailbox cannot be put below itself": "Ein Postfach kann nicht unter sich selbst liegen",
    "A mailbox name may not hold control characters": (
        "Der Name eines Postfachs darf keine Steuerzeichen enthalten"
    ),
    "A mailbox name is empty, padded or too long": (
        "Der Name eines Postfachs ist leer, zu lang oder von Leerzeichen umgeben"
    ),
    "INBOX keeps its name": "INBOX behält ihren Namen",
    "INBOX cannot be deleted": "INBOX kann nicht gelöscht werden",
    "No further mailbox fits into this account": "In dieses Konto passt kein weiteres Postfach",
    "This special use is taken or not known": (
        "Dieser besondere Zweck ist vergeben oder nicht bekannt"
    ),
    "This special use is not to be had": "Dieser besondere Zweck ist nicht zu haben",
    "A special use is the owner's to give": "Einen besonderen Zweck vergibt der Eigentümer",
    "This name stands for mailboxes of others": "Dieser Name steht für Postfächer anderer",
    "A mailbox stays with its owner": "Ein Postfach bleibt bei seinem Eigentümer",
    "These mailboxes have one owner": "Diese Postfächer haben denselben Eigentümer",
    "Another session has the maildrop open": "Eine andere Sitzung hat das Postfach geöffnet",
    "The account has no INBOX": "Das Konto hat keine INBOX",
    "No such account": "Dieses Konto gibt es nicht",
    "There is no such account": "Dieses Konto gibt es nicht",
    "This account was not deleted, or can be brought back": (
        "Dieses Konto wurde nicht gelöscht oder kann wiederhergestellt werden"
    ),
    # --- rights, quota, annotations ---
    "Rights told": "Rechte genannt",
    "Your rights told": "Ihre Rechte genannt",
    "Rights set": "Rechte gesetzt",
    "Rights removed": "Rechte entzogen",
    "The list told": "Liste genannt",
    "There is no such identifier": "Diesen Berechtigten gibt es nicht",
    "The owner of a mailbox has all rights": "Der Eigentümer eines Postfachs hat alle Rechte",
    "No further entry fits into the list of this mailbox": (
        "In die Liste dieses Postfachs passt kein weiterer Eintrag"
    ),
    "You have no right to do that in this mailbox": "Dazu haben Sie in diesem Postfach kein Recht",
    "This is not a right": "Das ist kein Recht",
    "There is no such quota root": "Diese Kontingentwurzel gibt es nicht",
    "Quota told": "Kontingent genannt",
    "Quota roots told": "Kontingentwurzeln genannt",
    "Annotations told": "Anmerkungen genannt",
    "Annotations set": "Anmerkungen gesetzt",
    "What the server says of itself is its administrator's to set": (
        "Was der Server über sich sagt, legt sein Administrator fest"
    ),
    "The annotations of this account take more than they may": (
        "Die Anmerkungen dieses Kontos brauchen mehr Platz, als sie dürfen"
    ),
    "The value of an annotation is larger than this server keeps": (
        "Der Wert einer Anmerkung ist größer, als dieser Server aufbewahrt"
    ),
    "No further annotation fits here": "Hier passt keine weitere Anmerkung hin",
    "This is not the name of an annotation": "Das ist nicht der Name einer Anmerkung",
    "This annotation cannot have a value": "Diese Anmerkung kann keinen Wert haben",
    # --- messages ---
    "Appended": "Hinzugefügt",
    "Replaced": "Ersetzt",
    "Moved": "Verschoben",
    "Copied": "Kopiert",
    "Expunged": "Entfernt",
    "Fetched": "Abgerufen",
    "Stored": "Gespeichert",
    "Some were changed meanwhile": "Einige wurden inzwischen geändert",
    "Some messages could not be read": "Einige Nachrichten konnten nicht gelesen werden",
    "Some messages are gone already": "Einige Nachrichten gibt es nicht mehr",
    "There is no such message": "Diese Nachricht gibt es nicht",
    "Messages are named by UID alone": "Nachrichten werden nur mit ihrer UID benannt",
    "The mailbox is open for reading only": "Das Postfach ist nur zum Lesen geöffnet",
    "The message to replace is not there; nothing was stored": (
        "Die Nachricht, die ersetzt werden soll, gibt es nicht; nichts wurde gespeichert"
    ),
    "REPLACE takes one message": "REPLACE nimmt eine einzige Nachricht",
    "UTF8 needs UTF8=ACCEPT, which was not enabled": (
        "UTF8 braucht UTF8=ACCEPT, das nicht eingeschaltet wurde"
    ),
    "UTF8 takes a binary literal": "UTF8 nimmt ein binäres Literal",
    "This cannot be a URL": "Das kann keine URL sein",
    "A message may not be empty; nothing was appended": (
        "Eine Nachricht darf nicht leer sein; nichts wurde hinzugefügt"
    ),
    "A message may not hold NUL": "Eine Nachricht darf kein NUL enthalten",
    "These are too many messages for one APPEND": "Das sind zu viele Nachrichten für ein APPEND",
    "These are too many parts for one command": "Das sind zu viele Teile für einen Befehl",
    "No message was announced": "Es wurde keine Nachricht angekündigt",
    "A URL names nothing that can be read here; nothing was stored": (
        "Eine URL nennt nichts, was hier gelesen werden kann; nichts wurde gespeichert"
    ),
    "The encoding of a part is not known; fetch it as BODY": (
        "Die Kodierung eines Teils ist nicht bekannt; rufen Sie ihn als BODY ab"
    ),
    "The binary content of this message cannot be converted": (
        "Der binäre Inhalt dieser Nachricht kann nicht umgewandelt werden"
    ),
    "This is not a flag that can be kept": "Diese Markierung kann nicht aufbewahrt werden",
    "No further keyword fits into this account": "In dieses Konto passt kein weiteres Stichwort",
    # --- searching and following ---
    "Searched": "Gesucht",
    "Sorted": "Sortiert",
    "Threaded": "Zu Gesprächen geordnet",
    "All strings are UTF-8": "Alle Zeichenketten sind UTF-8",
    "No mailbox is open": "Es ist kein Postfach geöffnet",
    "What was saved lies in the open mailbox": (
        "Was gespeichert wurde, liegt im geöffneten Postfach"
    ),
    "Only SEARCH and SORT are followed": "Nur SEARCH und SORT werden weiter verfolgt",
    "These are too many mailboxes to search at once": (
        "Das sind zu viele Postfächer, um sie auf einmal zu durchsuchen"
    ),
    "These are too many strings to look for at once": (
        "Das sind zu viele Zeichenketten, um auf einmal danach zu suchen"
    ),
    "This way of threading is not known here": "Diese Ordnung in Gespräche ist hier nicht bekannt",
    "These are too many messages to thread at once": (
        "Das sind zu viele Nachrichten, um sie auf einmal zu Gesprächen zu ordnen"
    ),
    "These results are not followed": "Diese Ergebnisse werden nicht verfolgt",
    "These results are followed no longer": "Diese Ergebnisse werden nicht mehr verfolgt",
    "The tag is that of a result that is followed": (
        "Das Kürzel gehört schon zu einem Ergebnis, das verfolgt wird"
    ),
    "Too many results are followed": "Es werden zu viele Ergebnisse verfolgt",
    "What depends on the time of day is not followed": (
        "Was von der Uhrzeit abhängt, wird nicht verfolgt"
    ),
    "These are too many messages to name": "Das sind zu viele Nachrichten, um sie zu nennen",
    "There is too much in it": "Es ist zu viel darin",
    "There is no filter of this name": "Einen Filter dieses Namens gibt es nicht",
    "This is not a filter: a search under a name without a slash": (
        "Das ist kein Filter: eine Suche unter einem Namen ohne Schrägstrich"
    ),
    "These are too many filters at once": "Das sind zu viele Filter auf einmal",
    "These filters are too long to be used at once": (
        "Diese Filter sind zu lang, um sie auf einmal zu verwenden"
    ),
    "These filters are too many keys to look for at once": (
        "Diese Filter haben zu viele Suchbegriffe für eine Suche"
    ),
    "There is too much to watch": "Es gibt zu viel zu beobachten",
    "These events are told": "Diese Ereignisse werden gemeldet",
    "So it will be told": "So wird es gemeldet",
    "Nothing will be told": "Nichts wird gemeldet",
    # --- URLs ---
    "These authorize URLs": "Damit werden URLs ermächtigt",
    "URLs authorized": "URLs ermächtigt",
    "URLs fetched": "URLs abgerufen",
    "All keys are gone": "Alle Schlüssel sind verworfen",
    "There is another key": "Es gilt ein neuer Schlüssel",
    "There is no such mechanism": "Dieses Verfahren gibt es nicht",
    "EXPIRE is in the past; no URL was authorized": (
        "EXPIRE liegt in der Vergangenheit; keine URL wurde ermächtigt"
    ),
    "The URL is for nobody; none was authorized": (
        "Die URL ist für niemanden; keine wurde ermächtigt"
    ),
    "This is not a URL that you can authorize here; none was authorized": (
        "Diese URL können Sie hier nicht ermächtigen; keine wurde ermächtigt"
    ),
    "The URL names no mailbox": "Die URL nennt kein Postfach",
    "The URL names an empty section": "Die URL nennt einen leeren Abschnitt",
    "The mailbox of a URL is not UTF-8": "Das Postfach einer URL ist nicht UTF-8",
    "This is not the URL of a message": "Das ist nicht die URL einer Nachricht",
    "The URL names no message": "Die URL nennt keine Nachricht",
    "EXPIRE is no date and time": "EXPIRE ist kein Zeitpunkt",
    "This is not a URL that can be authorized": "Diese URL kann nicht ermächtigt werden",
    "The URL names no server, or no user of it": (
        "Die URL nennt keinen Server oder keinen Benutzer dort"
    ),
    "The URL has no token that is known here": "Die URL hat kein Token, das hier bekannt ist",
    # --- the errors of the house ---
    "The system could not do this now": "Das System konnte dies jetzt nicht tun",
    "This could not be understood": "Das war nicht zu verstehen",
    "These arguments do not fit": "Diese Angaben passen nicht",
    "This is larger than this server accepts": "Das ist größer, als dieser Server annimmt",
    "Too many at once": "Zu viele auf einmal",
    "Authentication credentials invalid": "Die Anmeldedaten sind ungültig",
    "Temporary authentication failure": "Die Anmeldung ist vorübergehend nicht möglich",
    "This mechanism is not offered": "Dieses Verfahren wird nicht angeboten",
    "A response is missing": "Es fehlt eine Antwort",
    "The exchange is over": "Der Austausch ist beendet",
    "Nothing is left to say": "Es ist nichts mehr zu sagen",
    "Not allowed": "Das ist nicht erlaubt",
    "Encryption is needed first": "Zuerst ist Verschlüsselung nötig",
    "No such object": "Das gibt es nicht",
    "No such recipient here": "Diesen Empfänger gibt es hier nicht",
    "It exists already": "Das gibt es schon",
    "It is in use": "Es wird noch gebraucht",
    "The mailbox is full": "Das Postfach ist voll",
    "The limit of such objects is reached": "Davon sind nicht noch mehr möglich",
    "The server is busy, please try again": (
        "Der Server ist ausgelastet, bitte versuchen Sie es noch einmal"
    ),
    "The store could not keep this now; nothing was changed": (
        "Das konnte jetzt nicht gespeichert werden; nichts wurde geändert"
    ),
    "The mail system is full": "Das Mailsystem hat keinen Platz mehr",
    "The store was lost; whether this was kept is not known": (
        "Der Speicher ist ausgefallen; ob dies gespeichert wurde, ist nicht bekannt"
    ),
    "The server is shutting down, please try again": (
        "Der Server wird beendet, bitte versuchen Sie es noch einmal"
    ),
    "A stored object is damaged": "Etwas Gespeichertes ist beschädigt",
    "A stored secret cannot be read": "Ein gespeichertes Geheimnis kann nicht gelesen werden",
    "The server does not answer": "Der Server antwortet nicht",
    "The connection was lost": "Die Verbindung ist abgebrochen",
    "TLS could not be established": "TLS kam nicht zustande",
    "The certificate could not be verified": "Das Zertifikat konnte nicht geprüft werden",
    "The host does not answer": "Der Rechner antwortet nicht",
    "A DNS lookup failed, please try again": (
        "Eine DNS-Abfrage ist gescheitert, bitte versuchen Sie es noch einmal"
    ),
    # --- what the two sides say of themselves at sign-in ---
    "A SASL message holds no NUL here": "Eine SASL-Nachricht enthält hier kein NUL",
    "A SASL message is UTF-8": "Eine SASL-Nachricht ist UTF-8",
    "A SCRAM client begins with a gs2 header": "Ein SCRAM-Client beginnt mit einem gs2-Kopf",
    "A SCRAM client repeats its binding and the nonce": (
        "Ein SCRAM-Client wiederholt seine Bindung und die Nonce"
    ),
    "A SCRAM client says its name and a nonce": (
        "Ein SCRAM-Client nennt seinen Namen und eine Nonce"
    ),
    "A SCRAM client says whether it binds the channel": (
        "Ein SCRAM-Client sagt, ob er sich an den Kanal bindet"
    ),
    "A SCRAM server says a nonce, a salt and an iteration count": (
        "Ein SCRAM-Server nennt eine Nonce, ein Salt und eine Zahl von Durchgängen"
    ),
    "The server's nonce does not follow ours": "Die Nonce des Servers setzt unsere nicht fort",
    "Mandatory extensions of SCRAM are not known here": (
        "Verbindliche Erweiterungen von SCRAM sind hier nicht bekannt"
    ),
    "This is no attribute of SCRAM": "Das ist kein Attribut von SCRAM",
    "This is no proof": "Das ist kein Nachweis",
    "This is no signature": "Das ist keine Signatur",
    "A proof is missing": "Es fehlt ein Nachweis",
    "A channel binding has a name": "Eine Kanalbindung hat einen Namen",
    "A nonce is visible ASCII without commas": "Eine Nonce ist sichtbares ASCII ohne Kommas",
    "A name writes = as =3D and a comma as =2C": (
        "In einem Namen steht =3D für = und =2C für ein Komma"
    ),
    "A gs2 header holds nothing but a name": "Ein gs2-Kopf enthält nur einen Namen",
    "An OAUTHBEARER response begins with a gs2 header": (
        "Eine OAUTHBEARER-Antwort beginnt mit einem gs2-Kopf"
    ),
    "The response brings no bearer token": "Die Antwort bringt kein Bearer-Token mit",
    "The response does not end as it should": "Die Antwort endet nicht, wie sie soll",
    "A field of the response comes twice": "Ein Feld der Antwort kommt zweimal vor",
    "A field of the response is a name and a value": (
        "Ein Feld der Antwort besteht aus Name und Wert"
    ),
    "This is no PLAIN response": "Das ist keine Antwort nach PLAIN",
    "A PLAIN response is UTF-8": "Eine Antwort nach PLAIN ist UTF-8",
    "A name or password holds no NUL": "Ein Name oder Passwort enthält kein NUL",
    "A name or password holds no control characters": (
        "Ein Name oder Passwort enthält keine Steuerzeichen"
    ),
    "A name or token holds no control character": (
        "Ein Name oder Token enthält kein Steuerzeichen"
    ),
    "A name or password is not empty": "Ein Name oder Passwort ist nicht leer",
    "A password is UTF-8": "Ein Passwort ist UTF-8",
    "Right-to-left text begins and ends with such a letter": (
        "Text von rechts nach links beginnt und endet mit einem solchen Buchstaben"
    ),
    "SASLprep does not allow both directions of writing": (
        "SASLprep erlaubt nicht beide Schreibrichtungen zugleich"
    ),
    # --- what does not follow its grammar: words ---
    "The arguments could not be understood": "Die Angaben waren nicht zu verstehen",
    "There is more than the command takes": "Das ist mehr, als der Befehl nimmt",
    "A command is missing": "Es fehlt ein Befehl",
    "A space is missing": "Es fehlt ein Leerzeichen",
    "A word is missing": "Es fehlt ein Wort",
    "A tag is missing": "Es fehlt ein Kürzel",
    "A string is missing": "Es fehlt eine Zeichenkette",
    "A string or NIL is missing": "Es fehlt eine Zeichenkette oder NIL",
    "A list or NIL is missing": "Es fehlt eine Liste oder NIL",
    "A literal is missing": "Es fehlt ein Literal",
    "A binary literal is missing": "Es fehlt ein binäres Literal",
    "A message literal is missing": "Es fehlt das Literal einer Nachricht",
    "The literal of a part is missing": "Es fehlt das Literal eines Teils",
    "A number is missing": "Es fehlt eine Zahl",
    "A set of message numbers is missing": "Es fehlt eine Menge von Nachrichtennummern",
    "A range such as 1:100 or -1:-100 is missing": "Es fehlt ein Bereich wie 1:100 oder -1:-100",
    "A flag is missing": "Es fehlt eine Markierung",
    "A list of flags is missing": "Es fehlt eine Liste von Markierungen",
    "A date is missing": "Es fehlt ein Datum",
    "A date and time is missing": "Es fehlt ein Zeitpunkt",
    "A capability is missing": "Es fehlt eine Fähigkeit",
    "An item to fetch is missing": "Es fehlt, was abgerufen werden soll",
    "( is missing": "Es fehlt (",
    ") is missing": "Es fehlt )",
    "[ is missing": "Es fehlt [",
    "] is missing": "Es fehlt ]",
    "> is missing": "Es fehlt >",
    ". is missing": "Es fehlt .",
    '" is missing': 'Es fehlt "',
    "A quoted string does not end, or holds what it may not": (
        "Eine Zeichenkette in Anführungszeichen endet nicht oder enthält Unerlaubtes"
    ),
    "A binary literal is not taken here": "Ein binäres Literal wird hier nicht angenommen",
    "A literal holds NUL": "Ein Literal enthält NUL",
    "A string is not UTF-8": "Eine Zeichenkette ist nicht UTF-8",
    "A string is not in its charset": "Eine Zeichenkette passt nicht zu ihrem Zeichensatz",
    "This charset is not known here": "Dieser Zeichensatz ist hier nicht bekannt",
    "Strings beside a filter are UTF-8": "Zeichenketten neben einem Filter sind UTF-8",
    "This is not base64": "Das ist kein Base64",
    "This is not a language range": "Das ist kein Sprachbereich",
    "Too many languages": "Zu viele Sprachen",
    "ID takes at most 30 pairs": "ID nimmt höchstens 30 Paare",
    "A field of ID is too long or has no name": "Ein Feld von ID ist zu lang oder hat keinen Namen",
    # --- ... numbers and dates ---
    "A number is too large": "Eine Zahl ist zu groß",
    "A number may not be 0 here": "Eine Zahl darf hier nicht 0 sein",
    "A mod-sequence may not be 0 here": "Eine Änderungsnummer darf hier nicht 0 sein",
    "Not a set of message numbers": "Das ist keine Menge von Nachrichtennummern",
    "A message number is too large": "Eine Nachrichtennummer ist zu groß",
    "Neither * nor $ may stand here": "Hier darf weder * noch $ stehen",
    "No such date": "Dieses Datum gibt es nicht",
    "No such date and time": "Diesen Zeitpunkt gibt es nicht",
    "No such time zone": "Diese Zeitzone gibt es nicht",
    # --- ... mailboxes and flags ---
    "A mailbox has no name": "Ein Postfach hat keinen Namen",
    "A mailbox name is not UTF-8": "Der Name eines Postfachs ist nicht UTF-8",
    "A mailbox name is not modified UTF-7": (
        "Der Name eines Postfachs ist nicht im modifizierten UTF-7"
    ),
    "A mailbox name holds a control character": (
        "Der Name eines Postfachs enthält ein Steuerzeichen"
    ),
    "Not a flag": "Das ist keine Markierung",
    "RECURSIVEMATCH needs another selection option": (
        "RECURSIVEMATCH braucht eine weitere Auswahloption"
    ),
    "Too many mailboxes": "Zu viele Postfächer",
    "These mailboxes are not known here": "Diese Postfächer sind hier nicht bekannt",
    "Too many entries at once": "Zu viele Einträge auf einmal",
    "The name of an entry is ASCII": "Der Name eines Eintrags ist ASCII",
    "An option is given twice": "Eine Option steht zweimal da",
    "A depth is 0, 1 or infinity": "Eine Tiefe ist 0, 1 oder infinity",
    # --- ... what is fetched, stored, searched ---
    "A part is TEXT or URL": "Ein Teil ist TEXT oder URL",
    "VANISHED is for UID FETCH": "VANISHED ist für UID FETCH",
    "PARTIAL is for UID FETCH": "PARTIAL ist für UID FETCH",
    "VANISHED needs CHANGEDSINCE": "VANISHED braucht CHANGEDSINCE",
    "This item cannot be fetched": "Das kann nicht abgerufen werden",
    "This cannot be stored": "Das kann nicht gespeichert werden",
    "No such section": "Diesen Abschnitt gibt es nicht",
    "No such part": "Diesen Teil gibt es nicht",
    "A partial fetch of nothing": "Es soll ein Stück von nichts abgerufen werden",
    "Not the name of a header field": "Das ist nicht der Name eines Kopffeldes",
    "One PARTIAL or ALL is enough": "Ein PARTIAL oder ALL genügt",
    "One UPDATE is enough": "Ein UPDATE genügt",
    "The search is nested too deeply": "Die Suche ist zu tief geschachtelt",
    "The name of a filter has no slash": "Der Name eines Filters hat keinen Schrägstrich",
    "Only what is found in the open mailbox can be saved": (
        "Nur was im geöffneten Postfach gefunden wird, kann gespeichert werden"
    ),
    "No options of sources are known here": "Optionen für Quellen sind hier nicht bekannt",
    "Too many sources": "Zu viele Quellen",
    "Nothing is delayed in a search": "In einer Suche wird nichts aufgeschoben",
    "Each item once, and of BODY and BINARY one": (
        "Jede Angabe einmal, und von BODY und BINARY eine"
    ),
    "Too many URLs at once": "Zu viele URLs auf einmal",
    # --- ... events ---
    "Too many events": "Zu viele Ereignisse",
    "Too many groups": "Zu viele Gruppen",
    "There is no event": "Es fehlt ein Ereignis",
    "MessageNew and MessageExpunge go together": "MessageNew und MessageExpunge gehören zusammen",
    "FlagChange needs MessageNew and MessageExpunge": (
        "FlagChange braucht MessageNew und MessageExpunge"
    ),
    "Of the open mailbox only its messages are told": (
        "Vom geöffneten Postfach werden nur die Nachrichten gemeldet"
    ),
    "Only of the open mailbox messages are fetched": (
        "Nur aus dem geöffneten Postfach werden Nachrichten abgerufen"
    ),
    "The open mailbox stands in more than one group": (
        "Das geöffnete Postfach steht in mehr als einer Gruppe"
    ),
    # --- ... words that are not known ---
    "This modifier is not known here": "Dieser Zusatz ist hier nicht bekannt",
    "This parameter is not known here": "Dieser Parameter ist hier nicht bekannt",
    "This word is not known here": "Dieses Wort ist hier nicht bekannt",
    "This option is not known here": "Diese Option ist hier nicht bekannt",
    "This selection option is not known here": "Diese Auswahloption ist hier nicht bekannt",
    "This return option is not known here": "Diese Rückgabeoption ist hier nicht bekannt",
    "This status item is not known here": "Diese Statusangabe ist hier nicht bekannt",
    "This sort criterion is not known here": "Dieses Sortiermerkmal ist hier nicht bekannt",
    "This search key is not known here": "Dieser Suchschlüssel ist hier nicht bekannt",
    "This type of metadata is not known here": "Diese Art von Metadaten ist hier nicht bekannt",
    "This item of a URL is not known here": "Diese Angabe zu einer URL ist hier nicht bekannt",
    # --- ... lines ---
    "The line is empty": "Die Zeile ist leer",
    "The line is too long": "Die Zeile ist zu lang",
    "A line does not end with CRLF": "Eine Zeile endet nicht mit CRLF",
    "The literal is too large": "Das Literal ist zu groß",
    "Too much at once": "Zu viel auf einmal",
    "Too much was refused": "Es wurde zu viel abgewiesen",
}

# With places: `{name}` stands last and is what a person named; others are numbers or letters.
TEMPLATES: Final = {
    "Selected {name}": "Postfach geöffnet: {name}",
    "Examined {name}": "Postfach zum Lesen geöffnet: {name}",
    "{done} of {goal}, please wait": "{done} von {goal}, bitte warten Sie",
    "A SASL message has at most {most} octets": "Eine SASL-Nachricht hat höchstens {most} Oktette",
    "A SCRAM message has at most {most} attributes": (
        "Eine SCRAM-Nachricht hat höchstens {most} Attribute"
    ),
    "A client's nonce has at most {most} characters": (
        "Die Nonce eines Clients hat höchstens {most} Zeichen"
    ),
    "A name or password has at most {most} characters": (
        "Ein Name oder Passwort hat höchstens {most} Zeichen"
    ),
    "A salt has at most {most} octets": "Ein Salt hat höchstens {most} Oktette",
    "An iteration count is at least {least}": "Die Zahl der Durchgänge ist mindestens {least}",
    "An iteration count is at most {most}": "Die Zahl der Durchgänge ist höchstens {most}",
    "The response has at most {most} fields": "Die Antwort hat höchstens {most} Felder",
    "SCRAM's attribute {letter} is missing here": "Hier fehlt das Attribut {letter} von SCRAM",
    "SASLprep does not allow U+{code}": "SASLprep erlaubt U+{code} nicht",
}

PREFIXES: Final = {"Shared/": "Freigegeben/", "Public/": "Öffentlich/"}
