// A recommender at the edge: one Durable Object keeps one person, beside a model that all objects of an isolate share.
//
//   POST /track      {"name": "view_item", "payload": {"items": [{"item_id": "tent-2"}]}}
//   GET  /recommend  ?count=12
//   POST /forget

import { DurableObject } from 'cloudflare:workers';
import { NearfieldError } from 'nearfield';
import { People, sharedModel } from 'nearfield/server';

// One for the isolate, and so for all objects in it.
let model;

export class Person extends DurableObject {
  #people;

  constructor(ctx, env) {
    super(ctx, env);
    const site = { endpoint: env.CENTRAL, publicKey: env.PUBLIC_KEY, site: env.SITE };
    model ??= sharedModel(site);
    // What a person agreed to is the site's to know; this one asks for both before it sends anything here.
    const consent = () => ({ personalise: true, share: true });
    this.#people = new People({ ...site, model, storage: () => kept(ctx.storage), consent });
  }

  track(name, payload) {
    return this.#self(async (nf) => {
      const tracked = nf.track(name, payload);
      await nf.flush();
      return tracked;
    });
  }

  async recommend(request) {
    try {
      return { items: await this.#self((nf) => nf.recommend(request)) };
    } catch (thrown) {
      // An error that crosses to the worker would lose its code.
      if (thrown instanceof NearfieldError) return { error: { code: thrown.code, message: thrown.message } };
      throw thrown;
    }
  }

  async forget() {
    await this.#self((nf) => nf.forget());
  }

  #self(work) {
    return this.#people.with('self', work);
  }
}

/** Keeps a person in the object's own storage. What is written without a wait between is written as one. */
function kept(storage) {
  return {
    get: (key) => storage.get(key),
    async put(entries) {
      const written = Object.entries(entries).map(([key, bytes]) => (bytes === null ? storage.delete(key) : storage.put(key, bytes)));
      await Promise.all(written);
      await storage.sync();
    },
  };
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const known = /(?:^|; )person=([\w-]{36})/.exec(request.headers.get('cookie') ?? '')?.[1];
    const person = known ?? crypto.randomUUID();
    const object = env.PEOPLE.get(env.PEOPLE.idFromName(person));
    const headers = known ? {} : { 'set-cookie': `person=${person}; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Lax` };
    switch (`${request.method} ${pathname}`) {
      case 'POST /track': {
        const { name, payload } = await request.json();
        return Response.json(await object.track(name, payload), { headers });
      }
      case 'GET /recommend': {
        const answer = await object.recommend({ count: Number(searchParams.get('count') ?? 12) });
        return Response.json(answer, { status: answer.error ? (answer.error.code.startsWith('recommend.') ? 400 : 503) : 200, headers });
      }
      case 'POST /forget':
        await object.forget();
        return new Response(null, { status: 204 });
      default:
        return new Response(null, { status: 404 });
    }
  },
};
