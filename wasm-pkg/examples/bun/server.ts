// A recommender in Bun: people in SQLite, beside one model.
//
//   bun install nearfield
//   CENTRAL=https://central.example PUBLIC_KEY=… SITE=shop bun run server.ts
//
//   POST /track      {"name": "view_item", "payload": {"items": [{"item_id": "tent-2"}]}}
//   GET  /recommend  ?count=12

import { Database } from 'bun:sqlite';
import { NearfieldError, type StorageAdapter } from 'nearfield';
import { People } from 'nearfield/server';

const given = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

const db = new Database(process.env.DATA ?? 'people.sqlite', { create: true });
db.exec('PRAGMA journal_mode = WAL');
db.exec('CREATE TABLE IF NOT EXISTS kept (person TEXT, key TEXT, bytes BLOB NOT NULL, PRIMARY KEY (person, key)) WITHOUT ROWID');
const select = db.query<{ bytes: Uint8Array }, [string, string]>('SELECT bytes FROM kept WHERE person = ? AND key = ?');
const insert = db.query('INSERT OR REPLACE INTO kept VALUES (?, ?, ?)');
const remove = db.query('DELETE FROM kept WHERE person = ? AND key = ?');
const write = db.transaction((person: string, entries: object) => {
  for (const [key, bytes] of Object.entries(entries)) {
    if (bytes === null) remove.run(person, key);
    else insert.run(person, key, bytes);
  }
});

function kept(person: string): StorageAdapter {
  return {
    get: async (key) => select.get(person, key)?.bytes,
    put: async (entries) => void write(person, entries),
  };
}

const people = new People({
  endpoint: given('CENTRAL'),
  publicKey: given('PUBLIC_KEY'),
  site: given('SITE'),
  storage: kept,
  // What a person agreed to is the site's to know; this one asks for both before it sends anything here.
  consent: () => ({ personalise: true, share: true }),
  onError: (error) => console.error(`${error.code}: ${error.message}`),
});

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.env.PORT ?? 8000),
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const known = /(?:^|; )person=([\w-]{36})/.exec(request.headers.get('cookie') ?? '')?.[1];
    const person = known ?? crypto.randomUUID();
    const headers = known ? undefined : { 'set-cookie': `person=${person}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax` };
    try {
      switch (`${request.method} ${pathname}`) {
        case 'POST /track': {
          const { name, payload } = await request.json();
          const tracked = await people.with(person, async (nf) => {
            const tracked = nf.track(name, payload);
            await nf.flush();
            return tracked;
          });
          return Response.json(tracked, { headers });
        }
        case 'GET /recommend': {
          const count = Number(searchParams.get('count') ?? 12);
          return Response.json({ items: await people.with(person, (nf) => nf.recommend({ count })) }, { headers });
        }
        default:
          return new Response(null, { status: 404 });
      }
    } catch (thrown) {
      if (!(thrown instanceof NearfieldError)) throw thrown;
      const { code, message } = thrown;
      return Response.json({ error: { code, message } }, { status: code.startsWith('recommend.') ? 400 : 503 });
    }
  },
});
console.log(`listening ${server.url}`);

// Whoever is asked to end writes first.
process.on('SIGTERM', async () => {
  await server.stop();
  await people.close();
  db.close();
  process.exit();
});
