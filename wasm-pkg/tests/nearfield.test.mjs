// The package as shipped (dist/), against a central whose every byte the engine wrote.

import 'fake-indexeddb/auto';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { Model, Nearfield, NearfieldError, User, init, memoryStorage, verifyManifest } from 'nearfield';
import { answer, central, deltas, file, publicKey } from './central.mjs';

const BOTH = { personalise: true, share: true };

let server;
let opened = [];

beforeEach(async () => {
  server = await central();
});
afterEach(async () => {
  await Promise.all(opened.map((nf) => nf.close()));
  opened = [];
  server.close();
});

function options(more = {}) {
  return { endpoint: server.endpoint, publicKey, site: 'test', storage: 'memory', syncEveryMs: 0, consent: BOTH, ...more };
}

async function open(more) {
  const nf = await Nearfield.open(options(more));
  opened.push(nf);
  return nf;
}

const ids = (list) => list.map((item) => item.itemId);
/** A list without the id that names it. */
const plain = (list) => list.map(({ recommendationId, ...item }) => item);
const coded = (code, more = {}) => (error) => {
  assert.ok(error instanceof NearfieldError, `${error} is a NearfieldError`);
  assert.deepEqual({ code: error.code, ...more }, { code, ...Object.fromEntries(Object.keys(more).map((k) => [k, error[k]])) });
  return true;
};
const eventually = async (holds, what) => {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (holds()) return;
    await new Promise((soon) => setTimeout(soon, 10));
  }
  assert.fail(`${what} did not happen`);
};

describe('personalising', () => {
  test('one click brings its kind to the top and leaves out what was seen', async () => {
    const nf = await open();
    nf.track('select_item', { items: [{ item_id: 'tent-1' }] });
    const list = ids(nf.recommend({ count: 9 }));
    assert.equal(list.length, 9);
    assert.ok(list.every((id) => id.startsWith('tent-')), list.join());
    assert.ok(!list.includes('tent-1'));
    assert.ok(ids(nf.recommend({ count: 40, scenario: 'continue' })).includes('tent-1'));
  });

  test('the list follows each click, and tells listeners', async () => {
    const nf = await open();
    let calls = 0;
    nf.on('recommendations', () => (calls += 1));
    const lists = ['tent-1', 'lamp-2', 'lamp-3', 'lamp-4'].map((item_id) => {
      assert.deepEqual(nf.track('click', { item_id }), { applied: 1, duplicate: 0, context: 0, ignored: 0 });
      return ids(nf.recommend({ count: 5 }));
    });
    assert.equal(calls, 4);
    assert.ok(lists[0][0].startsWith('tent-'));
    assert.ok(lists[3][0].startsWith('lamp-'));
    assert.equal(new Set(lists.map(String)).size, 4, 'every click changes the list');
  });

  test('allow and deny bound the list, and unknown ids are ignored', async () => {
    const nf = await open();
    nf.track('view_item', { items: [{ item_id: 'tent-1' }] });
    assert.deepEqual(ids(nf.recommend({ allow: ['book-1', 'book-2', 'nothing'] })).sort(), ['book-1', 'book-2']);
    assert.ok(!ids(nf.recommend({ count: 40, deny: ['tent-2'] })).includes('tent-2'));
  });

  test('similar items share the taste, popular ones are the same for all', async () => {
    const [one, two] = [await open(), await open()];
    one.track('purchase', { item_id: 'book-1' });
    assert.ok(ids(one.similar('shoe-3', { count: 9 })).every((id) => id.startsWith('shoe-')));
    assert.deepEqual(one.similar('nothing'), []);
    assert.deepEqual(one.popular({ count: 7 }), two.popular({ count: 7 }));
  });

  test('an event with several items counts each once, and its id but once', async () => {
    const nf = await open();
    const purchase = { transaction_id: 'T1', items: [{ item_id: 'tent-1' }, { item_id: 'lamp-1' }] };
    assert.deepEqual(nf.track('purchase', purchase), { applied: 2, duplicate: 0, context: 0, ignored: 0 });
    assert.deepEqual(nf.track('purchase', purchase), { applied: 0, duplicate: 2, context: 0, ignored: 0 });
    assert.deepEqual(nf.inspect().history.map(({ itemId, kind }) => [itemId, kind]), [
      ['tent-1', 'purchase'],
      ['lamp-1', 'purchase'],
    ]);
  });

  test('impressions and searches are context and stay out of the history', async () => {
    const nf = await open();
    assert.equal(nf.track('view_item_list', { items: [{ item_id: 'tent-1' }, { item_id: 'tent-2' }] }).context, 2);
    assert.equal(nf.track('search', {}).context, 1);
    assert.equal(nf.inspect().history.length, 0);
  });

  test('payloads are taken as GA4 and Segment have them', async () => {
    const nf = await open();
    const before = Date.now();
    const cases = [
      ['view_item', { currency: 'EUR', value: 129.9, items: [{ item_id: 'tent-1', item_name: 'Tent', price: 129.9, quantity: 1 }] }, [['tent-1', 'view']]],
      ['add_to_cart', { items: [{ item_id: 'tent-2' }, { item_id: 'lamp-1' }] }, [['tent-2', 'cart'], ['lamp-1', 'cart']]],
      ['Product Viewed', { product_id: 'tent-3', sku: 'T-3', price: 18.99, currency: 'usd' }, [['tent-3', 'view']]],
      ['Order Completed', { order_id: 50314, products: [{ product_id: 'lamp-2' }, { product_id: 'lamp-3' }] }, [['lamp-2', 'purchase'], ['lamp-3', 'purchase']]],
      ['view_item', { event: 'view_item', ecommerce: { items: [{ item_id: 'book-1' }] } }, [['book-1', 'view']]],
      ['click', 'book-2', [['book-2', 'click']]],
      ['dismiss', ['book-3', { id: 'book-4' }], [['book-3', 'dismiss'], ['book-4', 'dismiss']]],
      ['select_item', { itemId: 'shoe-1', timestamp: '2020-01-01T00:00:00Z' }, [['shoe-1', 'click']]],
      ['remove_from_cart', { items: [{ item_id: 4711 }] }, [['4711', 'uncart']]],
    ];
    for (const [name, payload, expected] of cases) {
      const known = nf.inspect().history.length;
      assert.deepEqual(nf.track(name, payload), { applied: expected.length, duplicate: 0, context: 0, ignored: 0 }, name);
      const history = nf.inspect().history.slice(known);
      assert.deepEqual(history.map(({ itemId, kind }) => [itemId ?? '4711', kind]), expected, name);
    }
    const times = nf.inspect().history.map(({ timeMs }) => timeMs);
    assert.equal(times.filter((time) => time < before).length, 1, 'only the one that named a time of its own');
    assert.equal(nf.track('Order Completed', { orderId: '50314', products: [{ productId: 'lamp-2' }] }).duplicate, 1, 'an order counts once');
    assert.deepEqual(nf.inspect().ignored, {});
  });

  test('what cannot be used is left out and counted, and nothing is thrown', async () => {
    const nf = await open();
    const before = nf.snapshot();
    const cases = [
      ['poke', { item_id: 'tent-1' }, { unknown_name: 1 }],
      [undefined, undefined, { unknown_name: 1 }],
      [{ name: 'click' }, 'tent-1', { unknown_name: 1 }],
      ['begin_checkout', { items: [{ item_id: 'tent-1' }] }, { no_signal: 1 }],
      ['click', {}, { no_item: 1 }],
      ['click', undefined, { no_item: 1 }],
      ['click', null, { no_item: 1 }],
      ['click', { item_id: '' }, { no_item: 1 }],
      ['click', { item_id: NaN }, { no_item: 1 }],
      ['click', { items: 'tent-1' }, { no_item: 1 }],
      ['click', { items: [null, [], {}, new Date()] }, { no_item: 4 }],
      ['click', { item_id: 'é'.repeat(65) }, { item_id_too_long: 1 }],
    ];
    const all = {};
    for (const [name, payload, expected] of cases) {
      const ignored = Object.values(expected).reduce((sum, count) => sum + count, 0);
      assert.deepEqual(nf.track(name, payload), { applied: 0, duplicate: 0, context: 0, ignored }, JSON.stringify([name, payload]));
      for (const [reason, count] of Object.entries(expected)) all[reason] = (all[reason] ?? 0) + count;
    }
    assert.deepEqual(nf.snapshot(), before);
    assert.deepEqual(nf.inspect().ignored, all);
    // What is sound beside it is learnt.
    assert.deepEqual(nf.track('click', { items: [{ item_id: 'tent-1' }, {}, { item_id: 'tent-2' }] }), { applied: 2, duplicate: 0, context: 0, ignored: 1 });
    assert.equal(nf.track('view_item', { items: Array(250).fill({ item_id: 'tent-1' }) }).ignored, 50);
    assert.equal(nf.track('click', { item_id: 'tent-1', value: NaN, time_ms: Date.now() + 9e9, session_id: {} }).applied, 1);
    await nf.close();
    assert.deepEqual(nf.track('click', 'tent-1'), { applied: 0, duplicate: 0, context: 0, ignored: 0 });
  });

  test('the core itself is strict: an event that is none throws its code, field and limit', async () => {
    const nf = await open();
    const user = new User();
    const before = user.toBytes();
    const event = { kind: 'click', itemId: 'tent-1', timeMs: 1_000 };
    const cases = [
      [{ kind: 'poke' }, 'event.unknown_kind', { field: 'kind' }],
      [{ itemId: '' }, 'event.empty_item_id', { field: 'itemId' }],
      [{ itemId: 'x'.repeat(129) }, 'event.too_long', { field: 'itemId', limit: 128 }],
      [{ value: NaN }, 'event.non_finite_value', { field: 'value' }],
      [{ timeMs: 1_000 + 9e7 }, 'event.in_the_future', { field: 'timeMs' }],
      [{ timeMs: -1 }, 'event.bad_number', { field: 'timeMs' }],
      [{ timeMs: NaN }, 'event.bad_number', { field: 'timeMs' }],
    ];
    for (const [wrong, code, more] of cases) {
      assert.throws(() => user.learn(nf.model, { ...event, ...wrong }, 1_000), coded(code, more));
    }
    assert.deepEqual(user.toBytes(), before);
    user.free();
  });

  test('a request that is none throws its code and field', async () => {
    const nf = await open();
    const cases = [
      [{ count: 0 }, 'recommend.count', { field: 'count', limit: 1000 }],
      [{ count: 1001 }, 'recommend.count', { field: 'count' }],
      [{ count: 2.5 }, 'recommend.count', { field: 'count' }],
      [{ count: '5' }, 'recommend.count', { field: 'count' }],
      [{ scenario: 'home' }, 'recommend.scenario', { field: 'scenario' }],
      [{ allow: 'tent-1' }, 'recommend.allow', { field: 'allow' }],
      [{ deny: 7 }, 'recommend.deny', { field: 'deny' }],
      [{ diversity: 2 }, 'recommend.diversity', { field: 'diversity', limit: 1 }],
      [{ diversity: NaN }, 'recommend.diversity', { field: 'diversity' }],
      [{ explore: -0.1 }, 'recommend.explore', { field: 'explore', limit: 1 }],
      [{ explore: '1' }, 'recommend.explore', { field: 'explore' }],
      [{ seed: 2 ** 32 }, 'recommend.seed', { field: 'seed', limit: 2 ** 32 - 1 }],
      [{ shown: 1 }, 'recommend.shown', { field: 'shown' }],
      [{ limit: 5 }, 'recommend.unknown_option', { field: 'limit' }],
    ];
    for (const [request, code, more] of cases) assert.throws(() => nf.recommend(request), coded(code, more));
    assert.throws(() => nf.popular({ count: -1 }), coded('recommend.count'));
    assert.throws(() => nf.similar('tent-1', { count: 1e9 }), coded('recommend.count'));
    assert.equal(nf.recommend({ count: 1000, allow: new Set(['tent-1', 4711]) }).length, 1);
  });

  test('only a list that was shown counts, and a click by its rank in the very list it was in', async () => {
    const nf = await open();
    nf.track('click', 'tent-1');
    const peeked = nf.peek({ count: 5 });
    nf.track('click', peeked[0].itemId);
    assert.equal(nf.inspect().quality.total, 0, 'nothing had been shown');

    const first = nf.recommend({ count: 5 });
    assert.equal(new Set(first.map(({ recommendationId }) => recommendationId)).size, 1);
    const second = nf.recommend({ count: 5, deny: first.map(({ itemId }) => itemId) });
    assert.notEqual(first[0].recommendationId, second[0].recommendationId);
    assert.deepEqual(nf.clicked(first[0].recommendationId, first[0].itemId), { applied: 1, duplicate: 0, context: 0, ignored: 0 });
    assert.deepEqual(nf.inspect().quality.bins, [1, 0, 0, 0, 0]);
    nf.clicked(second[0].recommendationId, second[2].itemId);
    assert.deepEqual(nf.inspect().quality.bins, [1, 1, 0, 0, 0]);
    nf.clicked(second[0].recommendationId, second[3].itemId);
    assert.equal(nf.inspect().quality.total, 2, 'a list counts once');
    nf.clicked('nothing', 'tent-9');
    nf.clicked(undefined, undefined);
    assert.equal(nf.inspect().history.at(-1).itemId, 'tent-9', 'the click itself is learnt');
  });

  test('each item says why it is there, as data and in words', async () => {
    const nf = await open();
    const nobody = nf.recommend({ count: 10 });
    assert.ok(nobody.every(({ reasons }) => reasons.every(({ part }) => part === 'popular')));
    nf.track('purchase', 'lamp-3');
    nf.track('view_item', 'tent-1');
    for (const { itemId, reasons } of nf.recommend({ count: 10 })) {
      assert.ok(reasons.length >= 1 && reasons.length <= 2, itemId);
      const [first, second] = reasons;
      assert.ok(first.share >= (second?.share ?? 0) && first.share <= 1, itemId);
      for (const reason of reasons) assert.ok(reason.itemId === undefined || ['tent-1', 'lamp-3'].includes(reason.itemId));
    }
    const reasons = nf.recommend({ count: 10 }).flatMap((item) => item.reasons);
    const behind = reasons.filter(({ itemId }) => itemId === 'tent-1');
    assert.ok(behind.length > 0 && behind.every(({ kind }) => kind === 'view'));
    assert.ok(behind.some(({ text }) => /because you viewed tent-1|like tent-1, which you viewed last|often next to tent-1/.test(text)), JSON.stringify(behind));
  });

  test('diversity spreads the list over tastes, and exploration changes it with the seed', async () => {
    const nf = await open();
    nf.track('click', 'tent-1');
    const tastes = (request) => new Set(nf.peek({ count: 8, ...request }).map(({ itemId }) => itemId.split('-')[0])).size;
    assert.deepEqual([tastes({}), tastes({ diversity: 1 })], [1, 4]);
    const explored = (seed) => ids(nf.peek({ count: 8, explore: 1, ...(seed !== undefined && { seed }) })).join();
    assert.equal(explored(7), explored(7));
    assert.equal(explored(), explored(), 'a visit has one seed');
    assert.ok(new Set(Array.from({ length: 20 }, (_, seed) => explored(seed))).size > 3);
  });

  test('a dataLayer is followed, what was in it before and what is pushed later', async () => {
    const nf = await open();
    const layer = [
      { event: 'gtm.js', 'gtm.start': 1 },
      { event: 'view_item', ecommerce: { items: [{ item_id: 'tent-1' }] } },
      null,
      'text',
    ];
    const stop = nf.dataLayer(layer);
    const gtag = function () {
      layer.push(arguments);
    };
    gtag('js', new Date());
    gtag('event', 'add_to_cart', { items: [{ item_id: 'lamp-1' }] });
    assert.equal(layer.push({ ecommerce: null }, { event: 'purchase', ecommerce: { transaction_id: 'T1', items: [{ item_id: 'lamp-1' }] } }), 8);
    stop();
    layer.push({ event: 'view_item', ecommerce: { items: [{ item_id: 'book-1' }] } });
    assert.deepEqual(nf.inspect().history.map(({ itemId, kind }) => [itemId, kind]), [['tent-1', 'view'], ['lamp-1', 'cart'], ['lamp-1', 'purchase']]);
    assert.deepEqual(nf.inspect().ignored, {});
  });

  test('all that is known can be exported as plain values', async () => {
    const nf = await open();
    nf.track('click', 'tent-1');
    await nf.sync();
    const made = JSON.parse(JSON.stringify(nf.export()));
    assert.equal(made.site, 'test');
    assert.deepEqual(made.history.map(({ itemId }) => itemId), ['tent-1']);
    assert.deepEqual(made.sent.map(({ outcome }) => outcome), ['acknowledged']);
    assert.equal(made.token, Buffer.from('token-1').toString('hex'));
    assert.ok(Math.abs(Date.parse(made.madeAt) - Date.now()) < 10_000);
    const restored = await Nearfield.restore(new Uint8Array(Buffer.from(made.state, 'hex')), options({ model: file('2.pack') }));
    opened.push(restored);
    assert.deepEqual(restored.peek().map(({ itemId }) => itemId), nf.peek().map(({ itemId }) => itemId));
  });

  test('ready resolves at once where nothing is wrong', async () => {
    const nf = await open();
    assert.equal(await nf.ready, nf);
  });

  test('bad options are named', async () => {
    await assert.rejects(open({ site: '' }), coded('options.site', { field: 'site' }));
    await assert.rejects(open({ endpoint: 'central' }), coded('options.endpoint', { field: 'endpoint' }));
    await assert.rejects(open({ publicKey: 'abc' }), coded('options.publicKey', { field: 'publicKey' }));
    await assert.rejects(Nearfield.open({ site: 'test', storage: 'memory' }), coded('options.model', { field: 'model' }));
  });
});

describe('keeping', () => {
  test('a snapshot restores to the same list', async () => {
    const nf = await open();
    for (const item of ['tent-1', 'lamp-4', 'tent-5']) nf.track('click', item);
    const restored = await Nearfield.restore(nf.snapshot(), options({ model: file('2.pack') }));
    opened.push(restored);
    assert.deepEqual(plain(restored.recommend({ count: 20 })), plain(nf.recommend({ count: 20 })));
  });

  for (const kind of ['indexeddb', 'adapter']) {
    test(`state and model are found again in storage (${kind})`, async () => {
      const storage = kind === 'indexeddb' ? 'indexeddb' : memoryStorage();
      const first = await open({ storage });
      first.track('click', 'book-3');
      const list = plain(first.recommend({ count: 20 }));
      await first.close();
      // Offline from here on: the stored model is enough.
      server.close();
      const second = await open({ storage });
      assert.deepEqual(plain(second.recommend({ count: 20 })), list);
      assert.equal(second.inspect().history[0].itemId, 'book-3');
      await second.forget();
      assert.equal(second.inspect().history.length, 0);
      await second.close();
      const third = await open({ storage });
      assert.equal(third.inspect().history.length, 0, 'what was forgotten stays forgotten');
    });
  }

  test('damaged bytes in storage are reported, and the visit continues', async () => {
    const storage = memoryStorage();
    await storage.put({ state: Uint8Array.of(1, 2, 3), model: Uint8Array.of(4, 5) });
    const nf = await open({ storage });
    const errors = [];
    nf.on('error', (error) => errors.push(error.code));
    assert.deepEqual(errors.sort(), ['pack.foreign', 'state.foreign']);
    assert.equal(nf.recommend({ count: 3 }).length, 3);
    await assert.rejects(Nearfield.restore(Uint8Array.of(1), options()), coded('state.foreign'));
  });

  test('a failing storage is reported, and nothing is sent whose id is not stored', async () => {
    const storage = { ...memoryStorage(), put: async () => Promise.reject(new Error('quota')) };
    const nf = await open({ storage });
    const errors = [];
    nf.on('error', (error) => errors.push(error.code));
    nf.track('click', 'tent-1');
    await assert.rejects(nf.sync());
    assert.ok(errors.includes('storage.failed'));
    assert.equal(server.count('/v1/sync'), 0);
    assert.ok(ids(nf.recommend({ count: 1 }))[0].startsWith('tent-'));
  });
});

describe('keeping apart', () => {
  /** A storage in memory that has no room for what `refuses` says. */
  const full = (refuses) => {
    const storage = memoryStorage();
    const put = async (entries, options) => {
      if (refuses(entries)) throw new DOMException('full', 'QuotaExceededError');
      return storage.put(entries, options);
    };
    return { ...storage, put };
  };

  test('a model that exceeds the quota does not take the state down', async () => {
    const storage = full((entries) => entries.model);
    const nf = await open({ storage });
    const errors = [];
    nf.on('error', (error) => errors.push(error.code));
    nf.track('click', 'tent-1');
    await nf.close();
    assert.deepEqual([...new Set(errors)], ['storage.quota']);
    const again = await open({ storage });
    assert.equal(again.inspect().history.length, 1);
  });

  test('a state that exceeds the quota takes the room of the model', async () => {
    let holdsModel = false;
    const storage = full((entries) => {
      if ('model' in entries) holdsModel = entries.model !== null;
      return 'state' in entries && holdsModel;
    });
    const nf = await open({ storage });
    await nf.flush();
    assert.equal(holdsModel, false);
    nf.track('click', 'tent-1');
    await nf.flush();
    assert.ok(await storage.get('state'));
    assert.equal(await storage.get('model'), undefined);
  });

  test('a quota that leaves no room at all is reported, and nothing is sent', async () => {
    const nf = await open({ storage: full((entries) => entries.state) });
    nf.track('click', 'tent-1');
    await assert.rejects(nf.flush(), coded('storage.quota'));
    await assert.rejects(nf.sync(), coded('storage.quota'));
    assert.equal(server.count('/v1/sync'), 0);
  });

  for (const kind of ['indexeddb', 'adapter']) {
    test(`a state of a newer package is kept, reported, and used again by it (${kind})`, async () => {
      const site = 'test';
      const storage = kind === 'indexeddb' ? 'indexeddb' : memoryStorage();
      const first = await open({ site, storage });
      await first.forget();
      first.track('click', 'tent-1');
      await first.close();
      const edit = await editor(site, storage);
      const older = await edit.get('state');
      const newer = older.slice();
      new DataView(newer.buffer).setUint16(4, 0xffff, true);
      await edit.put('state', newer);

      const downgraded = await open({ site, storage });
      const errors = [];
      downgraded.on('error', (error) => errors.push(error.code));
      assert.deepEqual(errors, ['state.newer_schema']);
      downgraded.track('click', 'lamp-1');
      await downgraded.sync();
      assert.equal(downgraded.recommend({ count: 3 }).length, 3);
      await downgraded.close();
      assert.deepEqual(await edit.get('state'), newer);

      await edit.put('state', older);
      edit.close();
      const again = await open({ site, storage });
      assert.deepEqual(again.inspect().history.map(({ itemId }) => itemId), ['tent-1']);
      await again.forget();
    });
  }

  test('states of every older schema migrate', async () => {
    const storage = memoryStorage();
    const schema1 = readFileSync(new URL('../../engine/tests/states/schema-1.bin', import.meta.url));
    await storage.put({ state: new Uint8Array(schema1) });
    const nf = await open({ storage });
    assert.equal(nf.inspect().history.length, 7);
    nf.track('click', 'tent-1');
    await nf.close();
    assert.notEqual((await storage.get('state'))[4], 1, 'written in the newest schema');
    assert.equal((await open({ storage })).inspect().history.length, 8);
  });

  test('the database opens again after another connection made it close', async () => {
    const site = 'test';
    const nf = await open({ site, storage: 'indexeddb' });
    await nf.forget();
    nf.track('click', 'tent-1');
    await nf.flush();
    // A newer package upgrades the database: the connection in use must make way.
    const { version } = (await indexedDB.databases()).find(({ name }) => name === `nearfield:${site}`);
    await new Promise((done, failed) => {
      const request = indexedDB.open(`nearfield:${site}`, version + 1);
      request.onsuccess = () => done(request.result.close());
      request.onerror = failed;
    });
    nf.track('click', 'tent-2');
    await nf.flush();
    await nf.close();
    assert.equal((await open({ site, storage: 'indexeddb' })).inspect().history.length, 2);
  });

  test('events are written relaxed and coalesced; only what names a delta waits for durability', async () => {
    const storage = memoryStorage();
    const puts = [];
    const watched = { ...storage, put: (entries, options) => (puts.push({ ...options, keys: Object.keys(entries) }), storage.put(entries, options)) };
    const nf = await open({ storage: watched });
    await eventually(() => puts.some(({ durable, keys }) => durable && keys.includes('next')), 'the first name');
    await nf.flush();
    puts.length = 0;
    for (let event = 0; event < 10; event += 1) nf.track('view_item', `tent-${event}`);
    await nf.flush();
    assert.ok(puts.length <= 2, `${puts.length} writes for ten events`);
    assert.ok(puts.every(({ durable, keys }) => !durable && !keys.includes('model')));
    await nf.sync();
    await nf.flush();
    assert.ok(puts.some(({ durable }) => durable));
  });

  test('a model handed over as bytes wins over an older stored one, and yields to a newer', async () => {
    const storage = memoryStorage();
    await (await open({ storage, model: file('2.pack') })).close();
    const newer = await open({ storage, model: file('3.pack') });
    assert.equal(newer.inspect().version, 3);
    await newer.close();
    assert.equal((await open({ storage, model: file('2.pack') })).inspect().version, 3);
  });
});

/** Reads and writes what a closed Nearfield has stored. */
async function editor(site, storage) {
  if (typeof storage === 'object') {
    return { get: (key) => storage.get(key), put: (key, bytes) => storage.put({ [key]: bytes }), close() {} };
  }
  const request = indexedDB.open(`nearfield:${site}`);
  const database = await new Promise((done) => (request.onsuccess = () => done(request.result)));
  const run = (mode, work) =>
    new Promise((done) => {
      const request = work(database.transaction('kept', mode).objectStore('kept'));
      request.onsuccess = () => done(request.result);
    });
  return {
    get: (key) => run('readonly', (store) => store.get(key)),
    put: (key, bytes) => run('readwrite', (store) => store.put(bytes, key)),
    close: () => database.close(),
  };
}

describe('sending', () => {
  test('what is inspected is what is sent, and it is acknowledged', async () => {
    const nf = await open();
    assert.equal(nf.inspectDelta(), null);
    nf.track('click', 'tent-1');
    nf.track('purchase', 'lamp-2');
    const preview = nf.inspectDelta();
    assert.deepEqual(preview.items.map(({ itemId, kind }) => [itemId, kind]), [['tent-1', 'click'], ['lamp-2', 'purchase']]);
    assert.ok(preview.factor instanceof Int8Array && preview.factor.length === 16);
    assert.equal(preview.share, 1);
    const { sent } = await nf.sync();
    assert.equal(sent.length, 1);
    assert.equal(sent[0].outcome, 'acknowledged');
    assert.equal(sent[0].items, 2);
    assert.ok(Math.abs(sent[0].bytes - preview.bytes) <= 1 && sent[0].bytes <= 256);
    assert.deepEqual(nf.sent, sent);
    assert.deepEqual(nf.inspect().outbox, []);
    assert.equal(nf.inspectDelta(), null);
    const request = server.requests.find(({ path }) => path === '/v1/sync');
    assert.equal(request.headers['content-type'], 'text/plain');
    assert.equal(request.headers.cookie, undefined);
    assert.ok(request.body.includes('token-1'));
    assert.ok(!request.body.includes('tent-1'), 'no item id is sent, but rows');
  });

  test('a delta that may have arrived goes out again under the same id, and a duplicate settles it', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    nf.track('click', 'tent-1');
    server.routes['/v1/sync'] = () => null;
    await assert.rejects(nf.sync(), coded('central.unreachable'));
    const [{ id }] = nf.inspect().outbox;
    await nf.close();

    const again = await open({ storage });
    assert.deepEqual(again.inspect().outbox.map((entry) => entry.id), [id]);
    server.routes['/v1/sync'] = ({ body }) => ({ body: answer(body, 'duplicate') });
    await again.sync();
    assert.deepEqual(again.sent.map(({ id, outcome }) => ({ id, outcome })), [{ id, outcome: 'duplicate' }]);
    const [first, second] = server.requests.filter(({ path }) => path === '/v1/sync');
    assert.deepEqual(first.body, second.body);
    assert.deepEqual(again.inspect().outbox, []);
  });

  test('a refused delta is final and says why', async () => {
    const nf = await open();
    nf.track('click', 'tent-1');
    server.routes['/v1/sync'] = ({ body }) => ({ body: answer(body, 'refused') });
    const { sent } = await nf.sync();
    assert.deepEqual([sent[0].outcome, sent[0].reason], ['refused', 'stale']);
    assert.deepEqual((await nf.sync()).sent, []);
    assert.equal(server.count('/v1/sync'), 1);
  });

  test('an answer that is none leaves the outbox as it was', async () => {
    const nf = await open();
    nf.track('click', 'tent-1');
    server.routes['/v1/sync'] = () => ({ body: 'hello' });
    await assert.rejects(nf.sync(), coded('reply.foreign'));
    assert.equal(nf.inspect().outbox.length, 1);
  });

  test('twenty events go out by themselves, and the token is asked for once', async () => {
    const nf = await open();
    for (let event = 0; event < 20; event += 1) nf.track('view_item', `tent-${event % 10}`);
    await eventually(() => nf.sent.length === 1, 'the acknowledgement');
    assert.equal(nf.sent[0].items, 20);
    for (let event = 0; event < 20; event += 1) nf.track('view_item', `lamp-${event % 10}`);
    await eventually(() => nf.sent.length === 2, 'the second acknowledgement');
    assert.equal(server.count('/v1/device'), 1);
  });

  test('a token that central does not take is replaced once, and the delta goes out with the new one', async () => {
    const nf = await open();
    nf.track('click', 'tent-1');
    let tokens = 0;
    server.routes['/v1/device'] = () => ({ body: `token-${(tokens += 1)}` });
    server.routes['/v1/sync'] = ({ body }) => (body.includes('token-1') ? { status: 401 } : { body: answer(body) });
    const { sent } = await nf.sync();
    assert.deepEqual(sent.map(({ outcome }) => outcome), ['acknowledged']);
    const bodies = server.requests.filter(({ path }) => path === '/v1/sync').map(({ body }) => body);
    assert.equal(tokens, 2);
    assert.deepEqual(deltas(bodies[0]), deltas(bodies[1]));

    server.routes['/v1/sync'] = () => ({ status: 401 });
    nf.track('click', 'tent-2');
    await assert.rejects(nf.sync(), coded('central.token'));
    assert.equal(tokens, 3, 'a central that takes no token is not asked for ever');
    assert.equal(nf.inspect().outbox.length, 1, 'nothing is lost');
  });

  test('what is learnt while central is away waits, and its delta is made on the newest model', async () => {
    const nf = await open();
    server.routes['/v1/model/latest'] = () => null;
    for (let event = 0; event < 5; event += 1) nf.track('view_item', `tent-${event}`);
    await assert.rejects(nf.sync(), coded('central.unreachable'));
    assert.deepEqual([nf.inspect().outbox.length, server.count('/v1/sync')], [0, 0]);
    delete server.routes['/v1/model/latest'];
    server.manifest = '3.manifest';
    await nf.sync();
    const { body } = server.requests.find(({ path }) => path === '/v1/sync');
    assert.deepEqual(deltas(body).map(({ base, items }) => ({ base, items })), [{ base: 3, items: 5 }]);
  });

  test('a model that was not checked for hours is checked before a delta is made on it', async () => {
    let now = Date.now();
    const nf = await open({ idleMs: 10, now: () => now });
    nf.track('click', 'tent-1');
    await eventually(() => nf.sent.length === 1, 'the acknowledgement');
    server.manifest = '3.manifest';
    now += 2 * 3_600_000;
    nf.track('click', 'tent-2');
    await eventually(() => nf.sent.length === 2, 'the second acknowledgement');
    const bodies = server.requests.filter(({ path }) => path === '/v1/sync').map(({ body }) => body);
    assert.deepEqual(bodies.map((body) => deltas(body)[0].base), [2, 3]);
  });

  test('the token is there before the first event, so that a person who visits once also teaches', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    await eventually(() => server.count('/v1/device') === 1, 'the asking for a token');
    await nf.sync();
    await nf.flush();
    assert.ok(await storage.get('token'));
    assert.equal(server.count('/v1/sync'), 0);
  });

  test('an expired token is renewed before anything is sent, and the deltas stay', async () => {
    const token = (name, until) => {
      const bytes = new Uint8Array(41).fill(name);
      new DataView(bytes.buffer).setBigUint64(17, BigInt(until), true);
      return bytes;
    };
    let now = Date.now();
    const tokens = [token(1, now + 3_600_000), token(2, now + 9_000_000)];
    server.routes['/v1/device'] = () => ({ body: tokens.shift() });
    const nf = await open({ now: () => now });
    await nf.sync();
    nf.track('click', 'tent-1');
    server.routes['/v1/sync'] = () => null;
    await assert.rejects(nf.sync(), coded('central.unreachable'));
    const [{ id }] = nf.inspect().outbox;
    now += 3_600_001;
    const bodies = [];
    server.routes['/v1/sync'] = ({ body }) => (bodies.push(body), { body: answer(body) });
    const { sent } = await nf.sync();
    assert.deepEqual(sent.map((delta) => [delta.id, delta.outcome]), [[id, 'acknowledged']]);
    assert.equal(server.count('/v1/device'), 2);
    assert.ok(bodies.every((body) => body.includes(Buffer.alloc(16, 2))), 'the old token is not sent any more');
  });

  test('what was learnt goes out after the idle time', async () => {
    const nf = await open({ idleMs: 50 });
    nf.track('click', 'tent-1');
    assert.equal(server.count('/v1/sync'), 0);
    await eventually(() => nf.sent.length === 1, 'the acknowledgement');
  });

  test('a failed send is tried again in the background', async () => {
    const nf = await open({ idleMs: 10 });
    const errors = [];
    nf.on('error', (error) => errors.push(error.code));
    let tries = 0;
    server.routes['/v1/sync'] = ({ body }) => ((tries += 1) === 1 ? { status: 500 } : { body: answer(body) });
    nf.track('click', 'tent-1');
    await eventually(() => nf.sent.length === 1, 'the acknowledgement');
    assert.deepEqual(errors, ['central.status']);
    assert.equal(tries, 2);
  });

  test('Retry-After is honoured, also when asked to sync', async () => {
    const nf = await open({ idleMs: 10 });
    server.routes['/v1/sync'] = () => ({ status: 429, headers: { 'retry-after': '60' } });
    nf.track('click', 'tent-1');
    await eventually(() => server.count('/v1/sync') === 1, 'the first try');
    await new Promise((later) => setTimeout(later, 100));
    await assert.rejects(nf.sync(), coded('central.busy'));
    assert.equal(server.count('/v1/sync'), 1);
  });

  describe('from a page', () => {
    beforeEach(() => {
      globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
      const page = new EventTarget();
      globalThis.addEventListener = page.addEventListener.bind(page);
      globalThis.removeEventListener = page.removeEventListener.bind(page);
    });
    // Not after each test: the page must still be there when the outer hook closes.
    after(() => {
      delete globalThis.document;
      delete globalThis.addEventListener;
      delete globalThis.removeEventListener;
    });
    const hide = () => {
      document.visibilityState = 'hidden';
      document.dispatchEvent(new Event('visibilitychange'));
    };
    const pause = () => new Promise((soon) => setTimeout(soon, 60));

    test('a page that is hidden sends what was learnt, once', async () => {
      const nf = await open();
      nf.track('click', 'tent-1');
      await nf.sync();
      nf.track('click', 'tent-2');
      await pause();
      hide();
      hide();
      await eventually(() => nf.sent.length === 2, 'the acknowledgement');
      assert.equal(server.count('/v1/sync'), 2);
      assert.deepEqual(nf.inspect().outbox, []);
    });

    test('a page that dies before its last write says the same under the same id at the next visit', async () => {
      const storage = memoryStorage();
      const dying = { ...storage, put: (entries) => (document.visibilityState === 'hidden' ? new Promise(() => {}) : storage.put(entries)) };
      const nf = await Nearfield.open(options({ storage: dying }));
      nf.track('click', 'tent-1');
      await nf.sync();
      nf.track('click', 'tent-2');
      await pause();
      server.routes['/v1/sync'] = () => null;
      hide();
      await eventually(() => server.count('/v1/sync') === 2, 'the last send');
      document.visibilityState = 'visible';

      const next = await open({ storage });
      next.track('click', 'lamp-1');
      server.routes['/v1/sync'] = ({ body }) => ({ body: answer(body) });
      server.manifest = '3.manifest';
      await next.sync();
      const [, lost, ...again] = server.requests.filter(({ path }) => path === '/v1/sync').map(({ body }) => deltas(body));
      assert.deepEqual(again.flat()[0], lost[0], 'central knows an id with its base version');
      assert.deepEqual(again.flat().map(({ base, items }) => ({ base, items })), [{ base: 2, items: 1 }, { base: 3, items: 1 }]);
    });

    test('a page without a token makes its delta when it has one', async () => {
      server.routes['/v1/device'] = () => ({ status: 503 });
      const storage = memoryStorage();
      const nf = await open({ storage });
      nf.track('click', 'tent-1');
      await eventually(() => server.count('/v1/device') === 1, 'the asking for a token');
      hide();
      await nf.close();
      assert.equal(await storage.get('next'), undefined, 'nothing can have been sent');
      assert.equal(server.count('/v1/sync'), 0);
    });
  });

  test('a host without cookies, cache or keepalive is told nothing about them', async () => {
    const { fetch, Request } = globalThis;
    const options = new Set();
    globalThis.Request = class {};
    globalThis.fetch = (url, request) => {
      for (const name of Object.keys(request)) options.add(name);
      return fetch(url, request);
    };
    try {
      const nf = await open();
      nf.track('click', 'tent-1');
      await nf.sync();
    } finally {
      Object.assign(globalThis, { fetch, Request });
    }
    assert.deepEqual([...options].sort(), ['body', 'headers', 'method', 'signal']);
  });

  test('recommending continues while central is away', async () => {
    const nf = await open();
    server.close();
    nf.track('click', 'shoe-1');
    await assert.rejects(nf.sync(), coded('central.unreachable'));
    assert.ok(ids(nf.recommend({ count: 9 })).every((id) => id.startsWith('shoe-')));
  });
});

describe('consent', () => {
  test('without consent to personalise nothing is stored and nothing is sent', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage, consent: { personalise: false } });
    for (let event = 0; event < 25; event += 1) nf.track('click', `tent-${event % 5}`);
    await nf.sync();
    assert.ok(ids(nf.recommend({ count: 1 }))[0].startsWith('tent-'), 'the visit itself is personal');
    assert.equal(nf.inspectDelta(), null);
    await nf.close();
    for (const key of ['state', 'token', 'model']) assert.equal(await storage.get(key), undefined);
    assert.deepEqual([...new Set(server.requests.map(({ method }) => method))], ['GET']);
  });

  test('without consent to share no delta request is made, nor later for what came before', async () => {
    const nf = await open({ consent: { personalise: true, share: false } });
    for (let event = 0; event < 25; event += 1) nf.track('click', `tent-${event % 5}`);
    await nf.sync();
    assert.equal(server.count('/v1/sync') + server.count('/v1/device'), 0);
    await nf.consent({ share: true });
    await nf.sync();
    assert.equal(server.count('/v1/sync'), 0);
    nf.track('click', 'lamp-1');
    const { sent } = await nf.sync();
    assert.deepEqual(sent.map(({ items }) => items), [1]);
  });

  test('without any consent nothing is stored, nothing is read, and only the model is asked for', async () => {
    const storage = memoryStorage();
    const touched = [];
    const watched = {
      get: (key) => (touched.push(`get ${key}`), storage.get(key)),
      put: (entries, options) => (touched.push(`put ${Object.keys(entries)}`), storage.put(entries, options)),
    };
    for (const consent of [undefined, {}, { share: true }, { personalise: false, share: true }]) {
      const nf = await open({ storage: watched, consent });
      nf.track('click', 'tent-1');
      await nf.sync();
      await nf.flush();
      assert.ok(ids(nf.recommend({ count: 1 }))[0].startsWith('tent-'), 'the visit itself is personal');
      assert.deepEqual(nf.inspect().consent, { personalise: false, share: false });
      await nf.close();
    }
    assert.deepEqual([...new Set(touched)], ['get consent'], 'a consent of an earlier visit is looked for');
    assert.deepEqual([server.count('/v1/device'), server.count('/v1/sync')], [0, 0]);
  });

  test('without consent no database is created', async () => {
    const site = 'test';
    await new Promise((done) => (indexedDB.deleteDatabase(`nearfield:${site}`).onsuccess = done));
    const nf = await open({ site, storage: 'indexeddb', consent: undefined });
    nf.track('click', 'tent-1');
    await nf.flush();
    await nf.forget();
    await nf.close();
    assert.deepEqual((await indexedDB.databases()).filter(({ name }) => name === `nearfield:${site}`), []);
  });

  test('what was given is remembered, and what is given at opening wins field by field', async () => {
    const storage = memoryStorage();
    await (await open({ storage, consent: { personalise: true, share: false } })).close();
    const visit = async (consent, then) => {
      const nf = await open({ storage, consent });
      const inForce = nf.inspect().consent;
      await then?.(nf);
      await nf.close();
      return inForce;
    };
    assert.deepEqual(await visit(undefined), { personalise: true, share: false });
    assert.deepEqual(await visit({ share: true }), { personalise: true, share: true });
    assert.deepEqual(await visit(undefined, (nf) => nf.consent({ personalise: false })), { personalise: true, share: true });
    assert.deepEqual(await visit(undefined), { personalise: false, share: false });
  });

  for (const kind of ['indexeddb', 'adapter']) {
    test(`late consent joins what is in memory to what is stored (${kind})`, async () => {
      const storage = kind === 'indexeddb' ? 'indexeddb' : memoryStorage();
      const first = await open({ storage });
      await first.forget();
      for (let item = 0; item < 6; item += 1) first.track('click', `tent-${item}`);
      await first.close();
      const second = await open({ storage, consent: { personalise: false } });
      second.track('click', 'lamp-1');
      assert.deepEqual(second.inspect().history.map(({ itemId }) => itemId), ['lamp-1']);
      await second.consent({ personalise: true });
      const all = ['tent-0', 'tent-1', 'tent-2', 'tent-3', 'tent-4', 'tent-5', 'lamp-1'];
      assert.deepEqual(second.inspect().history.map(({ itemId }) => itemId), all);
      await second.close();
      const third = await open({ storage });
      assert.deepEqual(third.inspect().history.map(({ itemId }) => itemId), all);
      await third.forget();
    });
  }

  test('consent that is taken back while the token is under way stops the send, and the token is not kept', async () => {
    for (const withdrawal of [{ share: false }, { personalise: false }]) {
      const storage = memoryStorage();
      let arrived;
      server.routes['/v1/device'] = () => (arrived?.(), { body: 'token-1' });
      const nf = await open({ storage, consent: { personalise: true, share: false } });
      nf.track('click', 'tent-1');
      await nf.consent({ share: true });
      nf.track('click', 'tent-2');
      const asked = new Promise((done) => (arrived = done));
      const sync = nf.sync();
      await asked;
      await nf.consent(withdrawal);
      await sync;
      assert.equal(await storage.get('token'), undefined);
      await nf.close();
      assert.equal(server.count('/v1/sync'), 0);
    }
  });

  test('a withdrawal drops what waits, in memory and in storage', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    nf.track('click', 'tent-1');
    server.routes['/v1/sync'] = () => null;
    await assert.rejects(nf.sync(), coded('central.unreachable'));
    nf.track('click', 'tent-2');
    await nf.consent({ share: false });
    assert.deepEqual(nf.inspect().outbox, []);
    await nf.close();
    assert.equal(await storage.get('token'), undefined);
    const again = await open({ storage });
    assert.equal(again.inspect().history.length, 2);
    assert.equal(again.inspectDelta(), null);
  });

  test('consent that is taken back deletes what was stored', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    nf.track('click', 'tent-1');
    await nf.consent({ personalise: false });
    nf.track('click', 'tent-2');
    await nf.flush();
    for (const key of ['state', 'heard', 'next', 'token', 'consent', 'model', 'manifest']) {
      assert.equal(await storage.get(key), undefined, key);
    }
    assert.equal(nf.inspect().history.length, 2, 'the visit goes on in memory');
  });

  test('Global Privacy Control and Do Not Track keep sharing off, whatever was given, and are named', async () => {
    for (const [name, signal] of Object.entries({ gpc: { globalPrivacyControl: true }, dnt: { doNotTrack: '1' } })) {
      const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
      Object.defineProperty(globalThis, 'navigator', { value: signal, configurable: true });
      try {
        const nf = await open();
        nf.track('click', 'tent-1');
        await nf.sync();
        assert.deepEqual(nf.inspect().consent, { personalise: true, share: false, signal: name });
        assert.deepEqual(await nf.consent({ share: true }), { personalise: true, share: false, signal: name });
        assert.equal(nf.inspectDelta(), null);
        assert.deepEqual([server.count('/v1/device'), server.count('/v1/sync')], [0, 0]);
      } finally {
        if (before) Object.defineProperty(globalThis, 'navigator', before);
        else delete globalThis.navigator;
      }
    }
  });
});

describe('newer models', () => {
  test('a patch brings the next version without a second download', async () => {
    const nf = await open();
    const models = [];
    nf.on('model', (model) => models.push(model));
    nf.track('click', 'tent-1');
    assert.ok(!ids(nf.recommend({ count: 40 })).includes('tent-new'));
    server.manifest = '3.manifest';
    assert.equal((await nf.sync()).updated, true);
    assert.deepEqual(models.map(({ from, version, via }) => ({ from, version, via })), [{ from: 2, version: 3, via: 'patch' }]);
    assert.deepEqual(nf.model.toPack(), file('3.pack'), 'patched and packed are the same bytes');
    assert.ok(ids(nf.recommend({ count: 41 })).includes('tent-new'));
    assert.equal(server.count('/v1/model/3.pack'), 0);
  });

  test('without a patch the pack is taken, and it is what the next visit begins with', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    server.manifest = '3-without-patch.manifest';
    await nf.sync();
    assert.equal(nf.inspect().version, 3);
    await nf.close();
    assert.equal((await open({ storage })).inspect().version, 3);
  });

  test('what is stored is the pack as it was downloaded and the patches since, until they are longer than it', async () => {
    const storage = memoryStorage();
    let nf = await open({ storage, consent: { personalise: true } });
    await nf.close();
    const [before, after] = [await storage.get('model'), file('2.pack')];
    assert.deepEqual(before, after);
    const bare = (await storage.get('patches')).length;
    for (const [version, stored] of [[3, '2.pack'], [4, '4.pack']]) {
      nf = await open({ storage });
      server.manifest = `${version}.manifest`;
      await nf.sync();
      await nf.close();
      assert.deepEqual(await storage.get('model'), file(stored));
      assert.equal((await storage.get('patches')).length > bare, version === 3);
      // A visit without a network has the newest.
      server.routes['/v1/model/latest'] = () => null;
      nf = await open({ storage });
      assert.deepEqual(nf.model.toPack(), file(`${version}.pack`));
      await nf.close();
      delete server.routes['/v1/model/latest'];
    }
    assert.equal(server.count('/v1/model/2.pack'), 1);
  });

  test('stored patches that are damaged, or of another pack, leave the pack itself', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage, consent: { personalise: true } });
    server.manifest = '3.manifest';
    await nf.sync();
    await nf.close();
    server.routes['/v1/model/latest'] = () => null;
    const stored = await storage.get('patches');
    for (const spoil of [(bytes) => (bytes[40] ^= 1), (bytes) => (bytes[15] ^= 1), (bytes) => bytes.fill(0xff), (bytes) => bytes.fill(0, 16)]) {
      const bytes = stored.slice();
      spoil(bytes);
      await storage.put({ patches: bytes }, {});
      const again = await open({ storage });
      assert.equal(again.inspect().version, 2);
      assert.equal(again.recommend({ count: 5 }).length, 5);
      await again.close();
    }
  });

  test('a newer version in the answer to a delta is fetched at once', async () => {
    const nf = await open({ idleMs: 10 });
    server.manifest = '3.manifest';
    server.routes['/v1/sync'] = ({ body }) => ({ body: answer(body, 'acknowledged', 3) });
    nf.track('click', 'tent-1');
    await eventually(() => nf.inspect().version === 3, 'the newer model');
  });

  test('the background poll finds it too', async () => {
    const nf = await open({ syncEveryMs: 20 });
    server.manifest = '3.manifest';
    await eventually(() => nf.inspect().version === 3, 'the newer model');
  });

  const refusals = [
    ['a foreign signature', '3-foreign-key.manifest', 'manifest.bad_signature'],
    ['a lower version', '1.manifest', 'manifest.rollback'],
    ['an expired manifest', '3-expired.manifest', 'manifest.expired'],
    ['an older manifest of another lineage', '1-other-lineage.manifest', 'manifest.older'],
    ['a manifest for another site', '3-other-site.manifest', 'manifest.wrong_site'],
  ];
  for (const [name, manifest, code] of refusals) {
    test(`${name} keeps the last good model`, async () => {
      const nf = await open({ syncEveryMs: 20 });
      const errors = [];
      nf.on('error', (error) => errors.push(error.code));
      server.manifest = manifest;
      await assert.rejects(nf.sync(), coded(code));
      await eventually(() => errors.includes(code), 'the error event');
      assert.equal(nf.inspect().version, 2);
      assert.deepEqual(nf.model.toPack(), file('2.pack'));
      assert.equal(nf.recommend({ count: 5 }).length, 5);
    });
  }

  test('a pack with a wrong hash keeps the last good model', async () => {
    const nf = await open();
    server.manifest = '3-without-patch.manifest';
    const bad = file('3.pack');
    bad[bad.length - 1] ^= 1;
    server.routes['/v1/model/3.pack'] = () => ({ body: bad });
    await assert.rejects(nf.sync(), coded('manifest.hash'));
    // Not whole: broken off, cut off, or with something behind it.
    server.routes['/v1/model/3.pack'] = () => ({ body: bad.subarray(0, -1) });
    await assert.rejects(nf.sync(), coded('manifest.length'));
    server.routes['/v1/model/3.pack'] = () => ({ body: Buffer.concat([file('3.pack'), Buffer.alloc(1)]) });
    await assert.rejects(nf.sync(), coded('pack.length'));
    server.routes['/v1/model/3.pack'] = () => ({ headers: { 'content-length': bad.length }, body: bad.subarray(0, 999), breaks: true });
    await assert.rejects(nf.sync(), coded('central.unreachable'));
    assert.deepEqual(nf.model.toPack(), file('2.pack'));
  });

  test('a patch with a wrong hash is reported, and the pack is taken instead', async () => {
    const nf = await open();
    const errors = [];
    nf.on('error', (error) => errors.push(error.code));
    server.manifest = '3.manifest';
    const bad = file('2..3.patch');
    bad[20] ^= 1;
    server.routes['/v1/model/2..3.patch'] = () => ({ body: bad });
    await nf.sync();
    assert.deepEqual(errors, ['manifest.hash']);
    assert.deepEqual(nf.model.toPack(), file('3.pack'));
  });

  test('a first visit without a model says why', async () => {
    server.manifest = '3-foreign-key.manifest';
    await assert.rejects(open(), coded('manifest.bad_signature'));
    server.close();
    await assert.rejects(open(), coded('central.unreachable'));
  });
});

describe('many users on one model', () => {
  before(() => init());

  test('each has a list of their own, and deltas go through by hand', () => {
    const model = Model.load(file('2.pack'));
    const [camper, reader] = [new User(), new User()];
    for (let item = 0; item < 3; item += 1) {
      const shared = { kind: 'view', timeMs: 1_000 + item };
      assert.equal(camper.learn(model, { ...shared, itemId: `tent-${item}` }, 1_000 + item), 'applied');
      reader.learn(model, { ...shared, itemId: `book-${item}` }, 1_000 + item);
    }
    const list = camper.recommend(model, { count: 5 });
    assert.ok(list.rows instanceof Uint32Array && list.scores instanceof Float32Array);
    assert.ok(list.itemIds().every((id) => id.startsWith('tent-')));
    assert.ok(reader.recommend(model, { count: 5 }).itemIds().every((id) => id.startsWith('book-')));
    assert.deepEqual(list.items().map((item) => item.row), [...list.rows]);
    assert.ok(list.scores.every((score, place) => place === 0 || score <= list.scores[place - 1]));

    assert.equal(camper.takeDelta(model, new Uint8Array(16).fill(9)), true);
    assert.equal(camper.takeDelta(model, new Uint8Array(16).fill(8)), false);
    const body = camper.encodeSync('test', Uint8Array.of(1, 2));
    const { results, version } = camper.settle(answer(body, 'acknowledged', 5));
    assert.deepEqual(results.map(({ id, outcome }) => ({ id, outcome })), [{ id: '09'.repeat(16), outcome: 'acknowledged' }]);
    assert.equal(version, 5);
    assert.deepEqual(camper.outbox(), []);
    assert.throws(() => reader.takeDelta(model, new Uint8Array(3)), coded('delta.bad_id'));

    model.apply(file('2..3.patch'));
    assert.equal(model.version, 3);
    assert.throws(() => model.apply(file('2..3.patch')), coded('patch.wrong_version'));
    assert.ok(camper.recommend(model, { count: 40 }).itemIds().includes('tent-new'));
    for (const handle of [camper, reader, model]) handle.free();
  });

  test('a shared Model serves many Nearfields and stays the owner\'s', async () => {
    const model = Model.load(file('2.pack'));
    const shared = { site: 'test', storage: 'memory', model };
    const nf = await Nearfield.open(shared);
    nf.track('click', 'tent-1');
    const moved = await Nearfield.restore(nf.snapshot(), shared);
    assert.deepEqual(plain(moved.recommend()), plain(nf.recommend()));
    await nf.close();
    await moved.close();
    assert.equal(model.version, 2);
    assert.throws(() => nf.recommend(), coded('nearfield.closed'));
    model.free();
  });

  test('a manifest is verified by hand as well', async () => {
    const manifest = await verifyManifest(file('3.manifest'), publicKey, 'test', undefined, Date.now());
    assert.equal(manifest.version, 3);
    const model = Model.load(file('2.pack'));
    assert.deepEqual([manifest.isOf(model), manifest.patchFrom(model)], [false, 2]);
    assert.equal(manifest.patchBytes(model), file('2..3.patch').length);
    manifest.apply(model, file('2..3.patch'));
    assert.deepEqual([manifest.isOf(model), manifest.patchFrom(model)], [true, undefined]);
    assert.deepEqual(model.toPack(), manifest.load(file('3.pack')).toPack());
    assert.throws(() => manifest.load(file('2.pack')), coded('manifest.length'));
    assert.throws(() => manifest.apply(model, file('2..3.patch')), coded('manifest.no_patch'));
    manifest.free();
  });

  test('a signature is checked alike with and without WebCrypto', async (t) => {
    const { importKey } = crypto.subtle;
    const unsupported = async () => {
      throw new DOMException('Ed25519 is not known', 'NotSupportedError');
    };
    for (const known of [importKey, unsupported]) {
      t.mock.method(crypto.subtle, 'importKey', known);
      const verify = (bytes, key = publicKey) => verifyManifest(bytes, key, 'test', undefined, Date.now());
      (await verify(file('3.manifest'))).free();
      const [changed, foreign] = [file('3.manifest').slice(), file('3.manifest').slice()];
      changed[changed.length - 1] ^= 1;
      foreign[0] ^= 1;
      await assert.rejects(verify(changed), coded('manifest.bad_signature'));
      await assert.rejects(verify(foreign), coded('manifest.foreign'));
      await assert.rejects(verify(file('3.manifest').subarray(0, 40)), coded('manifest.bad_signature'));
      await assert.rejects(verify(file('3-foreign-key.manifest')), coded('manifest.bad_signature'));
      await assert.rejects(verify(file('3.manifest'), 'f'.repeat(64)), coded('manifest.bad_signature'));
      await assert.rejects(verify(file('3.manifest'), 'abc'), coded('manifest.bad_key'));
    }
  });

  test('a number out of its range is named, and what is behind the point is cut off', async () => {
    const [model, user] = [Model.load(file('2.pack')), new User()];
    const event = { kind: 'click', itemId: 'tent-1', timeMs: 1_000.5 };
    for (const bad of [NaN, -1, Infinity, 2 ** 53]) {
      const named = (code, field) => (error) => error.code === code && error.field === field && error.limit === Number.MAX_SAFE_INTEGER;
      assert.throws(() => user.learn(model, { ...event, timeMs: bad }, 2_000), named('event.bad_number', 'timeMs'));
      assert.throws(() => user.learn(model, event, bad), named('event.bad_number', 'nowMs'));
      assert.throws(() => user.deltaDue(bad), named('event.bad_number', 'nowMs'));
      assert.throws(() => user.wasShown(model, bad, new Uint32Array(0)), named('event.bad_number', 'version'));
      assert.throws(() => user.takeDelta(model, new Uint8Array(16), bad), named('delta.bad_number', 'base'));
      await assert.rejects(verifyManifest(file('3.manifest'), publicKey, 'test', undefined, bad), named('manifest.bad_number', 'nowMs'));
    }
    assert.equal(user.learn(model, event, 2_000.9), 'applied');
    assert.equal(user.history(model)[0].timeMs, 1_000);
    model.free();
    user.free();
  });

  test('what was freed says so, and freeing twice is no mistake', () => {
    const [model, other] = [Model.load(file('2.pack')), Model.load(file('3.pack'))];
    model.free();
    model.free();
    assert.throws(() => model.version, coded('core.freed'));
    assert.equal(other.version, 3);
    const third = Model.load(file('2.pack'));
    assert.throws(() => model.version, coded('core.freed'), 'its place may belong to another one');
    other.free();
    third.free();
  });

  test('a patch that leads to another model than the signed one changes nothing', async () => {
    const manifest = await verifyManifest(file('3-other-pack.manifest'), publicKey, 'test', undefined, Date.now());
    const model = Model.load(file('2.pack'));
    assert.throws(() => manifest.apply(model, file('2..3.patch')), coded('manifest.patched'));
    assert.throws(() => manifest.load(file('2.pack')), coded('manifest.other_model'));
    assert.deepEqual(model.toPack(), file('2.pack'));
    manifest.free();
  });

  test('what was accepted last is known at the next visit', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    await nf.sync();
    await nf.close();
    server.manifest = '1-other-lineage.manifest';
    const again = await open({ storage });
    await assert.rejects(again.sync(), coded('manifest.older'));
    assert.equal(again.inspect().version, 2);
  });

  test('a stored model that another key signed is left, and the new key\'s is taken', async () => {
    const storage = memoryStorage();
    const nf = await open({ storage });
    nf.track('click', 'tent-1');
    await nf.close();
    server.manifest = '3-foreign-key.manifest';
    const again = await open({ storage, publicKey: new TextDecoder().decode(file('other-public-key')) });
    assert.equal(again.inspect().version, 3);
    assert.equal(again.inspect().history.length, 1, 'what the person did is the person\'s');
  });

  test('a truncated or foreign pack is refused', () => {
    const pack = file('2.pack');
    assert.throws(() => Model.load(pack.subarray(0, pack.length - 10)), (error) => /^pack\./.test(error.code));
    assert.throws(() => Model.load(Uint8Array.of()), coded('pack.foreign'));
  });
});
