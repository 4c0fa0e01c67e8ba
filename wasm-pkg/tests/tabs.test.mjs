// Several tabs of one site: each is an instance of the package of its own, beside one IndexedDB.

import 'fake-indexeddb/auto';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { answer, central, deltas, file, publicKey } from './central.mjs';

const core = new WebAssembly.Module(readFileSync(new URL('../dist/nearfield_bg.wasm', import.meta.url)));
const BOTH = { personalise: true, share: true };

let server;
let site = 0;
let tabs = 0;
let opened = [];

/** The package as a new tab has it, with modules of its own. */
async function scripts() {
  const own = await import(`../dist/index.js?tab=${(tabs += 1)}`);
  own.initSync(core);
  return own;
}

/** Opens the site in a new tab. */
async function tab(more = {}) {
  const { Nearfield } = await scripts();
  const nf = await Nearfield.open({ endpoint: server.endpoint, publicKey, site: 'test', syncEveryMs: 0, consent: BOTH, ...more });
  opened.push(nf);
  return nf;
}

/** As much of the Web Locks as the package uses. */
function lockManager() {
  const queues = new Map();
  const next = (name) => {
    const queue = queues.get(name);
    if (queue.length > 0) queue[0].grant();
  };
  return {
    request(name, { ifAvailable, signal }, callback) {
      const queue = queues.get(name) ?? [];
      queues.set(name, queue);
      if (ifAvailable && queue.length > 0) return Promise.resolve(callback(null));
      return new Promise((done, failed) => {
        const entry = {
          grant: () => {
            entry.granted = true;
            Promise.resolve(callback({ name })).then(done, failed).finally(() => (queue.shift(), next(name)));
          },
        };
        signal?.addEventListener('abort', () => {
          if (entry.granted) return;
          queue.splice(queue.indexOf(entry), 1);
          failed(new DOMException('aborted', 'AbortError'));
        });
        queue.push(entry);
        if (queue.length === 1) entry.grant();
      });
    },
  };
}

const history = (nf) => nf.inspect().history.map(({ itemId }) => itemId);
const ids = (list) => list.map((item) => item.itemId);
const eventually = async (holds, what) => {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (holds()) return;
    await new Promise((soon) => setTimeout(soon, 10));
  }
  assert.fail(`${what} did not happen`);
};

for (const means of ['Web Locks', 'a lease in IndexedDB']) {
  describe(`tabs, elected by ${means}`, () => {
    beforeEach(async () => {
      site += 1;
      server = await central();
      const navigator = means === 'Web Locks' ? { locks: lockManager() } : {};
      Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
    });
    afterEach(async () => {
      for (const nf of opened.splice(0)) await nf.close();
      delete globalThis.addEventListener;
      delete globalThis.removeEventListener;
      server.close();
      await new Promise((done) => (indexedDB.deleteDatabase('nearfield:test').onsuccess = done));
    });

    test('one writes, the others follow, and no event of any is lost', async () => {
      const nfs = [await tab(), await tab(), await tab()];
      assert.deepEqual(nfs.map((nf) => nf.inspect().role), ['writer', 'follower', 'follower']);
      const tracked = [];
      for (let event = 0; event < 12; event += 1) {
        const item = ['tent', 'lamp', 'shoe', 'book'][event % 4] + `-${event % 10}`;
        nfs[event % 3].track('click', item);
        tracked.push(item);
      }
      await Promise.all(nfs.map((nf) => nf.flush()));
      for (const nf of nfs) await eventually(() => history(nf).length === 12, 'every event in every tab');
      const [state, ...others] = nfs.map((nf) => nf.snapshot());
      for (const other of others) assert.deepEqual(other, state);
      assert.deepEqual(history(nfs[0]).sort(), tracked.sort());
      assert.deepEqual(nfs.map((nf) => ids(nf.recommend())), Array(3).fill(ids(nfs[0].recommend())));
      for (const nf of opened.splice(0)) await nf.close();
      assert.deepEqual(history(await tab()).sort(), tracked.sort());
    });

    test('a list changes when another tab learns, and listeners hear it', async () => {
      const [writer, follower] = [await tab(), await tab()];
      const reasons = [];
      follower.on('recommendations', ({ reason }) => reasons.push(reason));
      writer.track('click', 'shoe-1');
      await eventually(() => reasons.includes('tab'), 'the news');
      assert.ok(ids(follower.recommend({ count: 5 })).every((id) => id.startsWith('shoe-')));
      const count = reasons.length;
      follower.track('click', 'shoe-2');
      await follower.flush();
      await new Promise((later) => setTimeout(later, 50));
      assert.deepEqual(reasons.slice(count), ['event'], 'what a tab has learnt itself is no news to it');
    });

    test('when the writer is closed another tab takes over, with the outbox and its ids', async () => {
      const [first, second] = [await tab(), await tab()];
      first.track('click', 'tent-1');
      server.routes['/v1/sync'] = () => null;
      await assert.rejects(first.sync());
      const [{ id }] = first.inspect().outbox;
      second.track('click', 'lamp-1');
      await first.close();
      delete server.routes['/v1/sync'];
      await eventually(() => second.inspect().role === 'writer', 'the take-over');
      second.track('click', 'lamp-2');
      await second.sync();
      await eventually(() => second.inspect().outbox.length === 0, 'the acknowledgements');
      assert.deepEqual(history(second), ['tent-1', 'lamp-1', 'lamp-2']);
      const sent = server.requests.filter(({ path }) => path === '/v1/sync').flatMap(({ body }) => deltas(body));
      const distinct = new Map(sent.map((delta) => [delta.id, delta.items]));
      assert.ok(distinct.has(id));
      assert.equal([...distinct.values()].reduce((sum, items) => sum + items, 0), 3, 'each event is told once');
    });

    test('what is forgotten in any tab stays forgotten in all', async () => {
      for (const forgetful of [0, 1]) {
        const nfs = [await tab(), await tab()];
        nfs[0].track('click', 'tent-1');
        nfs[1].track('click', 'tent-2');
        await Promise.all(nfs.map((nf) => nf.flush()));
        const forgotten = nfs[forgetful].forget();
        // At the same time the other tab goes on writing what it knows.
        nfs[1 - forgetful].track('click', 'tent-3');
        await forgotten;
        for (const nf of nfs) await eventually(() => !history(nf).includes('tent-1'), 'the forgetting');
        nfs[0].track('click', 'book-1');
        nfs[1].track('click', 'book-2');
        await Promise.all(nfs.map((nf) => nf.flush()));
        for (const nf of nfs) await eventually(() => history(nf).length === 2, 'the new events');
        for (const nf of opened.splice(0)) await nf.close();
        const again = await tab();
        assert.deepEqual(history(again).sort(), ['book-1', 'book-2']);
        await again.forget();
        await again.close();
        opened = [];
      }
    });

    test('what a page told its worker before the forgetting teaches nothing after it', async () => {
      const [one, two] = [await tab(), await tab()];
      two.track('click', 'tent-1');
      await two.flush();
      // A message of the page to the worker that has its core, on its way while another tab forgets.
      const at = Date.now() - 1;
      await one.forget();
      await eventually(() => history(two).length === 0, 'the forgetting');
      assert.equal(two.observe('click', 'tent-2', { at, id: 'before' }).applied, 0);
      assert.equal(two.observe('click', 'tent-3', { at: Date.now(), id: 'after' }).applied, 1);
      await Promise.all([one.flush(), two.flush()]);
      for (const nf of [one, two]) assert.deepEqual(history(nf), ['tent-3']);
      // A clock that was set back since says nothing about what was before.
      const back = await tab({ now: () => at - 3_600_000 });
      assert.equal(back.observe('click', 'tent-4', { at: at - 3_600_000, id: 'back' }).applied, 1);
    });

    test('a follower syncs through the writer', async () => {
      const [writer, follower] = [await tab(), await tab()];
      follower.track('click', 'tent-1');
      const { sent } = await follower.sync();
      assert.deepEqual(sent.map(({ outcome, items }) => [outcome, items]), [['acknowledged', 1]]);
      await eventually(() => follower.sent.length === 1, 'the news');
      assert.deepEqual(writer.sent, follower.sent);
      assert.deepEqual([server.count('/v1/sync'), server.count('/v1/device')], [1, 1]);
      server.close();
      follower.track('click', 'tent-2');
      await assert.rejects(follower.sync(), ({ code }) => code === 'central.unreachable');
    });

    test('a sync that the writer does not live to answer is done by the tab that comes after it', async () => {
      const [writer, follower] = [await tab(), await tab()];
      follower.track('click', 'tent-1');
      await follower.flush();
      let asked;
      const arrived = new Promise((done) => (asked = done));
      server.routes['/v1/sync'] = () => (asked(), null);
      const sync = follower.sync();
      await arrived;
      delete server.routes['/v1/sync'];
      await Promise.all([writer.close(), sync.catch(() => undefined)]);
      await eventually(() => follower.inspect().role === 'writer', 'the take-over');
      await follower.sync();
      await eventually(() => follower.inspect().outbox.length === 0, 'the acknowledgement');
    });

    test('a follower whose writer is gone before it is asked syncs itself', async () => {
      const [writer, follower] = [await tab(), await tab()];
      follower.track('click', 'tent-1');
      await follower.flush();
      const [{ sent }] = await Promise.all([follower.sync(), writer.close()]);
      assert.ok(sent.length <= 1);
      await eventually(() => follower.inspect().outbox.length === 0 && follower.inspectDelta() === null, 'the acknowledgement');
      assert.equal(server.count('/v1/sync'), 1);
    });

    test('a list that a follower showed counts for quality, once', async () => {
      const [writer, follower] = [await tab(), await tab()];
      writer.track('click', 'tent-1');
      await eventually(() => history(follower).length === 1, 'the event');
      const list = ids(follower.recommend({ count: 5 }));
      follower.track('click', list[1]);
      await follower.flush();
      assert.deepEqual(writer.inspect().quality.bins, [0, 1, 0, 0, 0]);
      assert.deepEqual(follower.inspect().quality.bins, [0, 1, 0, 0, 0]);
      await writer.sync();
      assert.equal(writer.inspect().quality.total, 1);
    });

    test('a newer model reaches the followers by storage', async () => {
      const [writer, follower] = [await tab(), await tab()];
      const models = [];
      follower.on('model', (model) => models.push(model));
      server.manifest = '3.manifest';
      // The first model was written just now; the next one waits ten seconds, or for the page to go away.
      await writer.sync();
      await writer.close();
      await eventually(() => follower.inspect().role === 'writer', 'the take-over');
      await eventually(() => follower.inspect().version === 3, 'the newer model');
      assert.deepEqual(models.map(({ from, version }) => [from, version]), [[2, 3]]);
    });

    test('consent that is taken back in one tab holds in all', async () => {
      const [writer, follower] = [await tab(), await tab()];
      writer.track('click', 'tent-1');
      await writer.flush();
      await follower.consent({ share: false });
      await eventually(() => !writer.inspect().consent.share, 'the news');
      writer.track('click', 'tent-2');
      await writer.sync();
      assert.equal(server.count('/v1/sync'), 0);
      await follower.consent({ personalise: false });
      await eventually(() => !writer.inspect().consent.personalise, 'the news');
      writer.track('click', 'tent-3');
      follower.track('click', 'tent-4');
      for (const nf of opened.splice(0)) await nf.close();
      const again = await tab({ consent: undefined });
      assert.deepEqual(again.inspect().consent, { personalise: false, share: false });
      assert.deepEqual(history(await tab()), [], 'nothing was kept');
    });

    test('a page that is kept for the back button lets another tab write, and joins again', async () => {
      const page = new EventTarget();
      globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
      globalThis.addEventListener = page.addEventListener.bind(page);
      globalThis.removeEventListener = page.removeEventListener.bind(page);
      const first = await tab();
      delete globalThis.document;
      const second = await tab();
      first.track('click', 'tent-1');
      const turn = (type) => page.dispatchEvent(Object.assign(new Event(type), { persisted: true }));
      turn('pagehide');
      await eventually(() => second.inspect().role === 'writer', 'the take-over');
      first.track('click', 'tent-2');
      second.track('click', 'lamp-1');
      await second.flush();
      turn('pageshow');
      await eventually(() => first.inspect().role === 'follower', 'the return');
      await first.flush();
      for (const nf of [first, second]) await eventually(() => history(nf).length === 3, 'every event in both tabs');
      assert.deepEqual(history(second), ['tent-1', 'lamp-1', 'tent-2']);
    });

    test('a page that opens a site twice gets the same instance, closed when it was closed twice', async () => {
      const { Nearfield } = await scripts();
      const options = { endpoint: server.endpoint, publicKey, site: 'test', syncEveryMs: 0, consent: BOTH };
      const [one, other] = await Promise.all([Nearfield.open(options), Nearfield.open(options)]);
      assert.equal(one, other);
      await assert.rejects(Nearfield.open({ ...options, publicKey: '0'.repeat(64) }), ({ code, field }) => code === 'options.conflict' && field === 'publicKey');
      await one.close();
      one.track('click', 'tent-1');
      await other.close();
      assert.throws(() => one.recommend(), ({ code }) => code === 'nearfield.closed');
      const third = await Nearfield.open(options);
      opened.push(third);
      assert.deepEqual(history(third), ['tent-1']);
      assert.equal(third.inspect().role, 'writer');
    });

    test('a snapshot takes the place of the stored person, unless another tab has that open', async () => {
      const { Nearfield } = await scripts();
      const options = { endpoint: server.endpoint, publicKey, site: 'test', syncEveryMs: 0, consent: BOTH, storage: 'indexeddb' };
      const first = await tab();
      first.track('click', 'tent-1');
      const snapshot = first.snapshot();
      await assert.rejects(Nearfield.restore(snapshot, options), ({ code }) => code === 'storage.in_use');
      first.track('click', 'tent-2');
      await first.close();
      const restored = await Nearfield.restore(snapshot, options);
      opened.push(restored);
      assert.deepEqual(history(restored), ['tent-1']);
      await restored.close();
      assert.deepEqual(history(await tab()), ['tent-1']);
    });
  });
}

test('without a channel the tab that opened last keeps the person, and the other neither writes nor sends', async () => {
  const { BroadcastChannel } = globalThis;
  delete globalThis.BroadcastChannel;
  server = await central();
  try {
    const first = await tab();
    first.track('click', 'tent-1');
    await first.flush();
    const second = await tab();
    assert.deepEqual(history(second), ['tent-1']);
    first.track('click', 'tent-2');
    await assert.rejects(first.flush(), ({ code }) => code === 'storage.superseded');
    assert.equal(first.inspect().role, 'follower');
    assert.ok(ids(first.recommend({ count: 5 })).every((id) => id.startsWith('tent-')));
    await first.sync();
    assert.equal(server.count('/v1/sync'), 0);
    await second.sync();
    await eventually(() => second.sent.length === 1, 'the acknowledgement');
    for (const nf of opened.splice(0)) await nf.close();
    const again = await tab();
    assert.deepEqual(history(again), ['tent-1']);
    await again.forget();
    await again.close();
    opened = [];
  } finally {
    globalThis.BroadcastChannel = BroadcastChannel;
    server.close();
  }
});
