// The declarations of the packed package, as strict consumers compile them.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

const root = fileURLToPath(new URL('..', import.meta.url));
const consumer = mkdtempSync(join(tmpdir(), 'nearfield-types-'));

const USE = `
import { Model, Nearfield, NearfieldError, User, init, memoryStorage, type Reason, type Recommendation, type StorageAdapter } from 'nearfield';
export async function use(): Promise<Recommendation[]> {
  await init();
  const storage: StorageAdapter = memoryStorage();
  const nf = await Nearfield.open({ endpoint: 'https://central.example', publicKey: '', site: 'shop', storage, consent: { share: true } });
  nf.track('view_item', { currency: 'EUR', items: [{ item_id: 7, price: 1.5 }] });
  nf.track('click', 'tent-1');
  const stop: () => void = nf.on('error', ({ code, field }: NearfieldError) => console.log(code, field));
  stop();
  const list = nf.recommend({ count: 3, allow: new Set(['a', 7]), diversity: 0.5 });
  const [first] = list;
  if (first) nf.clicked(first.recommendationId, first.itemId);
  const reasons: Reason[] = list.flatMap((item) => item.reasons);
  console.log(reasons.map(({ part, text }) => part + text), nf.inspect().consent.signal);
  using user = new User();
  const learned: 'applied' | 'duplicate' | 'context' = user.learn(Model.load(new Uint8Array()), { kind: 'view', itemId: 'x', timeMs: 1 });
  console.log(learned);
  return list;
}
// @ts-expect-error count is a number
export const wrong = (nf: Nearfield) => nf.recommend({ count: '3' });
`;
const USE_SERVER = `
import { memoryStorage, type Model, type Recommendation } from 'nearfield';
import { People, sharedModel } from 'nearfield/server';
const site = { endpoint: 'https://central.example', publicKey: '', site: 'shop' };
export const model: () => Promise<Model> = sharedModel(site);
export const list = (person: string): Promise<Recommendation[]> =>
  new People({ ...site, model, storage: () => memoryStorage(), onError: ({ code }) => console.log(code) }).with(person, (nf) => nf.recommend());
`;
const USE_WORKER = `
import { Nearfield, type Recommendation } from 'nearfield/worker';
export async function use(): Promise<Recommendation[]> {
  const nf = await Nearfield.open({ endpoint: 'https://central.example', publicKey: '', site: 'shop', storage: 'memory' });
  const { applied } = await nf.track('view_item', { items: [{ item_id: 7 }] });
  const { version } = await nf.inspect();
  const similar = await nf.similar(7, { count: applied + version });
  console.log(similar.map(({ itemId }) => itemId), await nf.snapshot(), nf.sent.length);
  return nf.recommend({ count: 3 });
}
// @ts-expect-error a storage of one's own cannot be handed over
export const wrong = () => Nearfield.open({ site: 'shop', storage: { get: async () => undefined, put: async () => {} } });
`;
const USE_REACT = `
import { Nearfield } from 'nearfield/worker';
import { useNearfield, useRecommendations } from 'nearfield/react';
export const use = () => useRecommendations(useNearfield({ site: 'shop' }).nearfield, { count: 3 }).map(({ itemId }) => itemId);
export const useWorker = () => useRecommendations(useNearfield({ site: 'shop' }, Nearfield).nearfield).map(({ itemId }) => itemId);
`;

before(() => {
  // What npm publishes, unpacked where a consumer has it.
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', consumer], { cwd: root });
  const [tarball] = readdirSync(consumer);
  execFileSync('tar', ['xzf', tarball], { cwd: consumer });
  mkdirSync(join(consumer, 'node_modules/@types'), { recursive: true });
  cpSync(join(consumer, 'package'), join(consumer, 'node_modules/nearfield'), { recursive: true });
  for (const name of ['@types/react', 'csstype']) symlinkSync(join(root, 'node_modules', name), join(consumer, 'node_modules', name));
  writeFileSync(join(consumer, 'use.mts'), USE);
  writeFileSync(join(consumer, 'server.mts'), USE_SERVER);
  writeFileSync(join(consumer, 'worker.mts'), USE_WORKER);
  writeFileSync(join(consumer, 'react.mts'), USE_REACT);
});
after(() => rmSync(consumer, { recursive: true }));

describe('declarations compile without skipLibCheck', () => {
  for (const [module, resolution] of [['nodenext', 'nodenext'], ['node16', 'node16'], ['esnext', 'bundler']]) {
    for (const lib of ['ES2022,DOM', 'ES2022,DOM,DOM.Iterable']) {
      test(`${resolution} with ${lib}`, () => {
        const flags = ['--noEmit', '--strict', '--skipLibCheck', 'false', '--exactOptionalPropertyTypes', '--target', 'es2022', '--lib', lib];
        const { stdout, status } = spawnSync(
          process.execPath,
          [join(root, 'node_modules/typescript/bin/tsc'), ...flags, '--types', '', '--module', module, '--moduleResolution', resolution, 'use.mts', 'server.mts', 'worker.mts', 'react.mts'],
          { cwd: consumer, encoding: 'utf8' },
        );
        assert.equal(status, 0, stdout);
      });
    }
  }
});

test('the tarball carries licence and readme, and each export names a file in it', async () => {
  const folder = join(consumer, 'node_modules/nearfield');
  const files = new Set(readdirSync(folder, { recursive: true }));
  for (const name of ['LICENSE', 'README.md', 'package.json']) assert.ok(files.has(name), name);
  const { default: manifest } = await import(join(folder, 'package.json'), { with: { type: 'json' } });
  const named = (entry) => (typeof entry === 'string' ? [entry] : Object.values(entry).flatMap(named));
  for (const path of named(manifest.exports)) assert.ok(files.has(path.replace('./', '')), path);
});

test('publint has nothing to say', async () => {
  const { messages, pkg } = await publint({ pkgDir: join(consumer, 'node_modules/nearfield'), pack: false, strict: true });
  assert.deepEqual(messages.map((message) => formatMessage(message, pkg)), []);
});
