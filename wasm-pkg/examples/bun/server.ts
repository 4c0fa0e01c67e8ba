// A recommender in Bun: people in SQLite, beside one model.
//
//   bun install nearfield
//   CENTRAL=https://central.example PUBLIC_KEY=… SITE=shop bun run server.ts

import { Database } from 'bun:sqlite';
import type { StorageAdapter } from 'nearfield';
import { People } from 'nearfield/server';
import { answer } from '../server/routes.ts';

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

const server = Bun.serve({ hostname: '127.0.0.1', port: Number(process.env.PORT ?? 8000), fetch: (request) => answer(people, request) });
console.log(`listening ${server.url}`);

// Whoever is asked to end writes first.
process.on('SIGTERM', async () => {
  await server.stop();
  await people.close();
  db.close();
  process.exit();
});
