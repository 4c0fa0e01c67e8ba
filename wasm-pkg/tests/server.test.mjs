// Many people beside one model.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { memoryStorage } from 'nearfield';
import { People, sharedModel } from 'nearfield/server';
import { central, publicKey } from './central.mjs';

const coded = (code) => (error) => error.code === code;

let server;
let site;
beforeEach(async () => {
  server = await central();
  site = { endpoint: server.endpoint, publicKey, site: 'test' };
});
afterEach(() => server.close());

describe('the shared model', () => {
  test('is loaded once, and looked after when its time has come', async () => {
    const newest = sharedModel(site);
    const model = await newest();
    assert.equal(model.version, 2);
    assert.equal(await newest(), model);
    assert.equal(server.count('/v1/model/latest'), 1);
    assert.equal(server.count('/v1/model/2.pack'), 1);
  });

  test('is brought up in place by a patch', async () => {
    const newest = sharedModel({ ...site, everyMs: 0 });
    const model = await newest();
    server.manifest = '3.manifest';
    assert.equal(await newest(), model);
    assert.equal(model.version, 3);
    assert.equal(server.count('/v1/model/3.pack'), 0);
    // Nothing newer: nothing is fetched but the manifest.
    assert.equal(await newest(), model);
    assert.deepEqual(server.requests.slice(-1).map(({ path }) => path), ['/v1/model/latest']);
  });

  test('takes the pack where the patch is damaged, and leaves the last one to whoever has it', async () => {
    const errors = [];
    const newest = sharedModel({ ...site, everyMs: 0, onError: ({ code }) => errors.push(code) });
    const model = await newest();
    server.manifest = '3.manifest';
    server.routes['/v1/model/2..3.patch'] = () => ({ body: 'no patch' });
    const newer = await newest();
    assert.equal(newer.version, 3);
    assert.equal(model.version, 2);
    assert.equal(errors.length, 1);
    assert.match(errors[0], /^(patch|manifest)\./);
  });

  test('stays while central is away; where there is none yet, the reason is said', async () => {
    const errors = [];
    const newest = sharedModel({ ...site, everyMs: 0, onError: ({ code }) => errors.push(code) });
    const model = await newest();
    server.routes['/v1/model/latest'] = () => null;
    assert.equal(await newest(), model);
    assert.deepEqual(errors, ['central.unreachable']);
    await assert.rejects(sharedModel(site)(), coded('central.unreachable'));
    server.routes['/v1/model/latest'] = () => ({ status: 503 });
    await assert.rejects(sharedModel(site)(), coded('central.status'));
    const other = await central();
    await assert.rejects(sharedModel({ ...site, site: 'other', endpoint: other.endpoint })(), coded('manifest.wrong_site'));
    other.close();
  });

  test('several at once get models that are all of use', async () => {
    const newest = sharedModel(site);
    const models = await Promise.all([newest(), newest(), newest()]);
    assert.deepEqual(models.map(({ version }) => version), [2, 2, 2]);
    // From then on there is one of them.
    assert.equal(await newest(), await newest());
    assert.equal(models.filter((model) => model === models[0]).length, 3);
  });
});

describe('people', () => {
  /** Storages by person, which outlive the instances. */
  const storages = () => {
    const kept = new Map();
    return (person) => {
      if (!kept.has(person)) kept.set(person, memoryStorage());
      return kept.get(person);
    };
  };
  const consent = () => ({ personalise: true, share: true });
  const history = (nf) => nf.inspect().history.map(({ itemId }) => itemId);

  test('are opened when needed, and who was there longest ago makes room', async () => {
    const people = new People({ ...site, storage: storages(), consent, max: 2 });
    for (const [index, person] of ['ann', 'bob', 'cleo'].entries()) {
      await people.with(person, (nf) => nf.track('click', `tent-${index + 1}`));
    }
    // Those who are open are few; what they did is kept all the same.
    await people.with('cleo', () => assert.ok(people.size <= 3));
    for (const [index, person] of ['ann', 'bob', 'cleo'].entries()) {
      assert.deepEqual(await people.with(person, history), [`tent-${index + 1}`]);
    }
    await people.close();
    assert.equal(people.size, 0);
    // One model for all of them.
    assert.equal(server.count('/v1/model/2.pack'), 1);
  });

  test('calls for one person share an instance, which stays open while one of them runs', async () => {
    const people = new People({ ...site, storage: storages(), consent, max: 1 });
    let go;
    const going = new Promise((resolve) => (go = resolve));
    let run;
    const running = new Promise((resolve) => (run = resolve));
    const long = people.with('ann', async (nf) => {
      run();
      await going;
      nf.track('click', 'tent-1');
      return nf;
    });
    await running;
    const short = await people.with('ann', (nf) => nf);
    await people.with('bob', () => undefined);
    go();
    assert.equal(await long, short);
    assert.deepEqual(await people.with('ann', history), ['tent-1']);
    await people.close();
  });

  test('who could not be opened is tried again, and another model takes place when nobody is called', async () => {
    let fails = true;
    const storage = memoryStorage();
    const people = new People({
      ...site,
      everyMs: 0,
      consent,
      storage: () => {
        if (fails) throw new Error('no disk');
        return storage;
      },
    });
    await assert.rejects(people.with('ann', () => undefined), /no disk/);
    fails = false;
    const before = await people.with('ann', (nf) => (nf.track('click', 'tent-1'), nf));
    server.manifest = '3.manifest';
    server.routes['/v1/model/2..3.patch'] = () => ({ body: 'no patch' });
    const after = await people.with('ann', (nf) => nf);
    assert.notEqual(after, before);
    assert.equal(after.model.version, 3);
    assert.deepEqual(history(after), ['tent-1']);
    await people.close();
  });

  test('options say what is wrong', () => {
    for (const max of [0, -1, 1.5, Number.NaN]) {
      assert.throws(() => new People({ ...site, storage: storages(), max }), ({ code, field }) => code === 'options.max' && field === 'max');
    }
  });
});
