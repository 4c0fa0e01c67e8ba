// A recommender in Deno: people in Deno's key-value store, beside one model.
//
//   npm install nearfield
//   CENTRAL=https://central.example PUBLIC_KEY=… SITE=shop \
//     deno run --unstable-kv --allow-net --allow-read --allow-write --allow-env server.ts

import type { StorageAdapter } from 'nearfield';
import { People } from 'nearfield/server';
import { answer } from '../server/routes.ts';

const given = (name: string): string => {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

const kv = await Deno.openKv(Deno.env.get('DATA') ?? 'people.kv');

function kept(person: string): StorageAdapter {
  return {
    async get(key) {
      return (await kv.get<Uint8Array>(['person', person, key])).value ?? undefined;
    },
    async put(entries) {
      const all = kv.atomic();
      for (const [key, bytes] of Object.entries(entries)) {
        if (bytes === null) all.delete(['person', person, key]);
        else all.set(['person', person, key], bytes);
      }
      await all.commit();
    },
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

const server = Deno.serve({ hostname: '127.0.0.1', port: Number(Deno.env.get('PORT') ?? 8000) }, (request) => answer(people, request));

// Whoever is asked to end writes first.
Deno.addSignalListener('SIGTERM', async () => {
  await server.shutdown();
  await people.close();
  kv.close();
  Deno.exit();
});
