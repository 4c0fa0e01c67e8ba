// What the servers in Deno and Bun answer: both speak in the requests and responses of the web.
//
//   POST /track      {"name": "view_item", "payload": {"items": [{"item_id": "tent-2"}]}}
//   GET  /recommend  ?count=12

import { NearfieldError } from 'nearfield';
import type { People } from 'nearfield/server';

/** Answers a request for the person that its cookie names; who has none gets one. */
export async function answer(people: People, request: Request): Promise<Response> {
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
}
