// The hooks, on a server and in a page.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { GlobalWindow } from 'happy-dom';
import { createElement as h, StrictMode } from 'react';
import { renderToString } from 'react-dom/server';
import { Nearfield } from 'nearfield';
import { useNearfield, useRecommendations } from 'nearfield/react';
import { central, publicKey } from './central.mjs';

let server;
before(async () => {
  server = await central();
});
after(() => server.close());

const site = () => ({ endpoint: server.endpoint, publicKey, site: 'test', storage: 'memory', syncEveryMs: 0 });
const eventually = async (holds, what) => {
  for (let tries = 0; tries < 500; tries += 1) {
    if (holds()) return;
    await new Promise((soon) => setTimeout(soon, 10));
  }
  assert.fail(`${what} did not happen`);
};

/** Shows the list, and gives its instance and its number of renders away. */
function List({ request, from, seen }) {
  const { nearfield, error } = useNearfield(site(), from);
  const list = useRecommendations(nearfield, request);
  seen.nearfield = nearfield;
  seen.error = error;
  seen.renders = (seen.renders ?? 0) + 1;
  return h('ol', {}, list.map(({ itemId }) => h('li', { key: itemId }, itemId)));
}

test('a server renders what is known before anything is: nothing', () => {
  assert.equal(renderToString(h(List, { seen: {} })), '<ol></ol>');
});

/** Runs `work` with what React needs of a page. */
async function inPage(work) {
  const window = new GlobalWindow({ url: 'http://localhost/' });
  const kept = ['window', 'document', 'navigator', 'addEventListener', 'removeEventListener'].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name] of kept) {
    const value = name === 'window' ? window : typeof window[name] === 'function' ? window[name].bind(window) : window[name];
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const { createRoot } = await import('react-dom/client');
  const place = window.document.createElement('div');
  try {
    await work(createRoot(place), () => [...place.querySelectorAll('li')].map((item) => item.textContent));
  } finally {
    for (const [name, descriptor] of kept) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
    await window.happyDOM.close();
  }
}

test('a page opens once, shows the list, and follows what the person does', () =>
  inPage(async (root, items) => {
    const seen = {};
    const show = (request) => root.render(h(StrictMode, {}, h(List, { request, seen })));
    show({ count: 5 });
    await eventually(() => items().length === 5, 'the first list');
    seen.nearfield.track('view_item', { items: [{ item_id: 'shoe-1' }] });
    await eventually(() => items().every((id) => id.startsWith('shoe-')), 'the list for shoes');
    const settled = seen.renders;
    await new Promise((later) => setTimeout(later, 100));
    assert.ok(seen.renders <= settled + 2, 'it does not render for ever');
    show({ count: 3, allow: new Set(['tent-1', 'tent-2']) });
    await eventually(() => items().length === 2, 'the list of another request');
    show({ count: 3, allow: new Set(['tent-1']) });
    await eventually(() => items().length === 1, 'a request that differs within a set');
    const { nearfield } = seen;
    root.unmount();
    await eventually(() => {
      try {
        return !nearfield.recommend();
      } catch (thrown) {
        return thrown.code === 'nearfield.closed';
      }
    }, 'the closing');
  }));

test('lists that are promises, as those of a worker are, follow too, and the last one stays meanwhile', () =>
  inPage(async (root, items) => {
    let closed = false;
    const worker = {
      async open(options) {
        const nf = await Nearfield.open(options);
        const later = async (call) => (await new Promise((soon) => setTimeout(soon, 20)), call());
        return {
          get revision() {
            return nf.revision;
          },
          on: (...args) => nf.on(...args),
          recommend: (request) => later(() => nf.recommend(request)),
          track: (...args) => nf.track(...args),
          close: () => ((closed = true), nf.close()),
        };
      },
    };
    const [seen, lengths] = [{}, new Set()];
    const observed = () => (lengths.add(items().length), items());
    root.render(h(List, { request: { count: 5 }, from: worker, seen }));
    await eventually(() => observed().length === 5, 'the first list');
    seen.nearfield.track('view_item', { items: [{ item_id: 'shoe-1' }] });
    await eventually(() => observed().every((id) => id.startsWith('shoe-')), 'the list for shoes');
    assert.deepEqual(lengths, new Set([0, 5]));
    const settled = seen.renders;
    await new Promise((later) => setTimeout(later, 100));
    assert.ok(seen.renders <= settled + 2, 'it does not render for ever');
    root.unmount();
    await eventually(() => closed, 'the closing');
    await new Promise((later) => setTimeout(later, 100));
  }));
