// What a first visit fetches while the core is still on its way.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Nearfield, init } from 'nearfield';
import { central, file, publicKey } from './central.mjs';

test('manifest and pack come while the core does; what the key did not sign leads to nothing', async () => {
  const [server, foreign] = [await central(), await central()];
  foreign.manifest = '3-foreign-key.manifest';
  let arrive;
  void init(new Promise((arrived) => (arrive = arrived)));
  const options = { publicKey, site: 'test', storage: 'memory', syncEveryMs: 0 };
  const opening = Nearfield.open({ ...options, endpoint: server.endpoint });
  const refused = Nearfield.open({ ...options, endpoint: foreign.endpoint });
  refused.catch(() => undefined);
  const paths = ({ requests }) => requests.map(({ path }) => path);
  for (let tries = 0; tries < 500 && (server.requests.length < 2 || foreign.requests.length < 1); tries += 1) {
    await new Promise((soon) => setTimeout(soon, 10));
  }
  assert.deepEqual(paths(server), ['/v1/model/latest', '/v1/model/2.pack']);
  arrive(readFileSync(new URL('../dist/nearfield_bg.wasm', import.meta.url)));
  const nf = await opening;
  assert.deepEqual(nf.model.toPack(), file('2.pack'));
  assert.equal(server.requests.length, 2);
  await assert.rejects(refused, ({ code }) => code === 'manifest.bad_signature');
  assert.deepEqual(paths(foreign), ['/v1/model/latest']);
  await nf.close();
  server.close();
  foreign.close();
});
