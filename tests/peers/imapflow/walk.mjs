// imapflow against a server: what it reads and hears goes out as one JSON object.
// It compresses, enables QRESYNC or CONDSTORE and idles of its own accord.
import { readFileSync } from 'node:fs';
import { ImapFlow } from 'imapflow';

const told = JSON.parse(readFileSync(0, 'utf8'));
const open = async () => {
  const client = new ImapFlow({
    host: 'localhost',
    port: told.port,
    secure: true,
    auth: { user: told.user, pass: told.password },
    tls: { ca: told.certificate },
    logger: false,
  });
  await client.connect();
  return client;
};
const soon = (emitter, event) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event}`)), 10_000);
    emitter.once(event, (value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
const collect = async (stream) => {
  const found = [];
  for await (const each of stream) found.push(each);
  return found;
};

const client = await open();
const said = { compressed: Boolean(client._deflate), enabled: [...client.enabled] };

await client.mailboxCreate('Réunions/2026');
said.folders = (await client.list()).map((each) => [each.path, each.specialUse ?? null]);

const box = await client.mailboxOpen('INBOX');
said.exists = box.exists;
said.modseq = box.highestModseq > 0n;
said.contents = (await collect(client.fetch('1:*', { source: true, uid: true }))).map((each) =>
  each.source.toString('base64'),
);
const first = await client.fetchOne('1', {
  envelope: true,
  bodyStructure: true,
  flags: true,
  internalDate: true,
  size: true,
  threadId: true,
  headers: ['subject'],
});
said.first = {
  subject: first.envelope.subject,
  size: first.size,
  emailId: Boolean(first.emailId),
  structure: first.bodyStructure.type,
  header: first.headers.toString('utf8'),
};
const { content } = await client.download('2', undefined);
said.download = Buffer.concat(await collect(content)).toString('base64');

said.subject = await client.search({ subject: told.subject }, { uid: true });
said.none = await client.search({ body: 'nobody wrote this' });
await client.messageFlagsAdd('1:3', ['\\Flagged', 'Réal'.normalize('NFD').replace(/[^a-z]/gi, '')]);
said.flagged = await client.search({ flagged: true });

// A second connection does; the first one, idling, hears of it.
const other = await open();
await other.mailboxOpen('INBOX');
const idling = client.idle();
const exists = soon(client, 'exists');
const appended = await other.append('INBOX', Buffer.from(told.letter, 'base64'), ['\\Seen']);
said.appended = { uid: appended.uid, heard: (await exists).count };
const expunged = soon(client, 'expunge');
await other.messageDelete(String(appended.uid), { uid: true });
said.expunged = Boolean(await expunged);

const moved = await client.messageMove('1', 'Réunions/2026');
said.moved = moved.uidMap.size;
said.there = (await client.status('Réunions/2026', { messages: true, size: true })).messages;
said.quota = Boolean(await client.getQuota('INBOX'));
await client.mailboxRename('Réunions/2026', 'Réunions/2027');
await client.mailboxDelete('Réunions/2027');
await other.logout();
await client.logout();
process.stdout.write(JSON.stringify(said));
