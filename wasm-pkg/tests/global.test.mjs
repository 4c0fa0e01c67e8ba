// The plain script: one global, and the core beside it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import vm from 'node:vm';
import { central, publicKey } from './central.mjs';

const SCRIPT = 'https://cdn.example/lib/nearfield.global.js';

test('a page without modules has everything under one global', async () => {
  const fetched = [];
  const module = readFileSync(new URL('../dist/nearfield_bg.wasm', import.meta.url));
  const page = vm.createContext({
    document: Object.assign(new EventTarget(), { currentScript: { src: SCRIPT }, visibilityState: 'visible' }),
    addEventListener() {},
    removeEventListener() {},
    fetch: (url, request) => {
      fetched.push(String(url));
      if (String(url).startsWith('https://cdn.example/')) return new Response(module, { headers: { 'content-type': 'application/wasm' } });
      return fetch(url, request);
    },
    // What a browser's window has.
    ...{ Response, Request, URL, TextEncoder, TextDecoder, AbortController, AbortSignal, performance, crypto, console },
    ...{ setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, WebAssembly, Uint8Array, Uint32Array, Float32Array, Int8Array, Error, RangeError },
  });
  page.globalThis = page;
  vm.runInContext(readFileSync(new URL('../dist/nearfield.global.js', import.meta.url), 'utf8'), page);
  // The script has run: nothing of it is current any more.
  page.document.currentScript = null;
  const { Nearfield } = page.nearfield;
  const server = await central();
  after(() => server.close());
  const nf = await Nearfield.open({ endpoint: server.endpoint, publicKey, site: 'test', storage: 'memory' });
  assert.equal(fetched[0], 'https://cdn.example/lib/nearfield_bg.wasm');
  nf.track('view_item', { items: [{ item_id: 'tent-1' }] });
  assert.ok(nf.recommend({ count: 5 }).every(({ itemId }) => itemId.startsWith('tent-')));
  await nf.close();
});
