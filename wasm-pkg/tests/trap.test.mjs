// A core whose memory runs out traps: it must be whole again afterwards, and know what was learnt.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { Model, Nearfield, User, init, memoryStorage } from 'nearfield';
import { central, file, publicKey } from './central.mjs';

const PAGES_MORE = 24;

/** The core with a memory that can grow by a few pages only. */
function cramped(module) {
  const read = (at) => {
    for (let [value, shift] = [0, 0]; ; shift += 7) {
      value |= (module[at] & 127) << shift;
      if (module[at++] < 128) return [value, at];
    }
  };
  const write = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...write(value >>> 7)]);
  for (let at = 8; at < module.length; ) {
    const id = module[at];
    const [size, body] = read(at + 1);
    if (id === 5) {
      const [pages] = read(body + 2);
      const section = [1, 1, ...write(pages), ...write(pages + PAGES_MORE)];
      return Uint8Array.from([...module.subarray(0, at), 5, ...write(section.length), ...section, ...module.subarray(body + size)]);
    }
    at = body + size;
  }
  throw new Error('the module has no memory section');
}

const server = await central();
after(() => server.close());
await init(cramped(readFileSync(new URL('../dist/nearfield_bg.wasm', import.meta.url))));

const options = { endpoint: server.endpoint, publicKey, site: 'test', syncEveryMs: 0, consent: { personalise: true, share: true } };
const history = (nf) => nf.inspect().history.map(({ itemId }) => itemId);
const eventually = async (holds, what) => {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (holds()) return;
    await new Promise((soon) => setTimeout(soon, 10));
  }
  assert.fail(`${what} did not happen`);
};

/** Takes memory until the core traps. */
function exhaust() {
  const held = [];
  assert.throws(() => {
    for (;;) held.push(Model.load(file('2.pack')), new User());
  }, ({ code, cause }) => code === 'core.trapped' && cause instanceof WebAssembly.RuntimeError);
  return held;
}

const works = (nf) => {
  try {
    return nf.recommend().length > 0;
  } catch (thrown) {
    assert.equal(thrown.code, 'core.lost');
    return false;
  }
};

for (const [name, more] of Object.entries({
  'a storage': { storage: memoryStorage() },
  'memory and central': { storage: 'memory' },
  'bytes': { storage: 'memory', model: file('2.pack') },
})) {
  test(`after a trap all is as before, with the model from ${name}`, async () => {
    const nf = await Nearfield.open({ ...options, ...more });
    const errors = [];
    const reasons = [];
    nf.on('error', (error) => errors.push(error.code));
    for (const item of ['tent-1', 'lamp-2', 'tent-3']) nf.track('click', item);
    server.routes['/v1/sync'] = () => null;
    await assert.rejects(nf.sync(), ({ code }) => code === 'central.unreachable');
    const outbox = nf.inspect().outbox;
    nf.track('click', 'tent-4');
    const list = nf.recommend();
    nf.on('recommendations', ({ reason }) => reasons.push(reason));

    const held = exhaust();
    assert.throws(() => nf.recommend(), ({ code }) => code === 'core.lost');
    nf.track('click', 'tent-5');
    nf.track('click', { item_id: 'tent-5', event_id: 'x'.repeat(1000) });
    await eventually(() => works(nf), 'the recovery');
    assert.deepEqual(reasons, ['core']);
    assert.deepEqual(history(nf), ['tent-1', 'lamp-2', 'tent-3', 'tent-4', 'tent-5']);
    assert.deepEqual(nf.inspect().outbox, outbox, 'what may have been sent goes out again under its id');
    assert.deepEqual(nf.inspect().quality.total, 1);
    assert.equal(nf.recommend().length, list.length);

    delete server.routes['/v1/sync'];
    await nf.sync();
    await eventually(() => nf.sent.length === 2, 'the acknowledgements');
    assert.deepEqual(nf.sent.map(({ items }) => items), [3, 2]);
    // What was made before the trap is refused by name, and may be freed all the same.
    assert.throws(() => held[0].version, ({ code }) => code === 'core.lost');
    for (const handle of held) handle.free();
    await nf.close();
  });
}

test('every trap is recovered from, not only the first', async () => {
  const nf = await Nearfield.open({ ...options, storage: memoryStorage() });
  for (let round = 0; round < 5; round += 1) {
    nf.track('click', `shoe-${round}`);
    exhaust();
    await eventually(() => works(nf), 'the recovery');
    assert.equal(history(nf).length, round + 1);
  }
  await nf.close();
});

test('a shared model is its owner\'s to load again', async () => {
  const model = Model.load(file('2.pack'));
  const nf = await Nearfield.open({ site: 'test', storage: 'memory', model });
  nf.track('click', 'tent-1');
  exhaust();
  await new Promise((soon) => setTimeout(soon, 50));
  assert.throws(() => nf.recommend(), ({ code }) => code === 'core.lost');
  await nf.close();
});

test('handles are freed when opening fails half-way', async () => {
  const freed = { model: 0, user: 0 };
  const count = (prototype, name) => {
    const { free } = prototype;
    prototype.free = function () {
      freed[name] += 1;
      free.call(this);
    };
    return () => (prototype.free = free);
  };
  const undo = [count(Model.prototype, 'model'), count(User.prototype, 'user')];
  const snapshot = new User();
  const bytes = snapshot.toBytes();
  snapshot.free();
  freed.user = 0;
  server.routes['/v1/model/latest'] = () => null;
  await assert.rejects(Nearfield.restore(bytes, { ...options, storage: 'memory' }), ({ code }) => code === 'central.unreachable');
  assert.deepEqual(freed, { model: 0, user: 1 });
  undo.forEach((back) => back());
});
