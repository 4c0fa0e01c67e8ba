// A recommender in Deno: people in Deno's key-value store, beside one model.
//
//   npm install nearfield
//   CENTRAL=https://central.example PUBLIC_KEY=… SITE=shop \
//     deno run --unstable-kv --allow-net --allow-read --allow-write --allow-env server.ts
//
//   POST /track      {"name": "view_item", "payload": {"items": [{"item_id": "tent-2"}]}}
//   GET  /recommend  ?count=12

import { NearfieldError, type StorageAdapter } from 'nearfield';
import { People } from 'nearfield/server';

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

const server = Deno.serve({ hostname: '127.0.0.1', port: Number(Deno.env.get('PORT') ?? 8000) }, async (request) => {
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
});

// Whoever is asked to end writes first.
Deno.addSignalListener('SIGTERM', async () => {
  await server.shutdown();
  await people.close();
  kv.close();
  Deno.exit();
});
