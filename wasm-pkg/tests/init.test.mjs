// Loading the core: explicit, once, and with an error that says what to do.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Model, init, initSync } from 'nearfield';

const coded = (code) => (error) => error.code === code;

test('before it is loaded the core says so, a failed load may be tried again, and later ones change nothing', async () => {
  assert.throws(() => Model.load(new Uint8Array()), coded('init.missing'));
  await assert.rejects(init(Promise.reject(new TypeError('no network'))), coded('init.failed'));
  await assert.rejects(init(Uint8Array.of(1, 2, 3)), coded('init.failed'));
  for (const message of [
    "WebAssembly.instantiateStreaming(): Compiling or instantiating WebAssembly module violates the following Content Security policy directive because neither 'wasm-eval' nor 'unsafe-eval' is an allowed source of script",
    'call to WebAssembly.instantiate() blocked by CSP',
  ]) {
    const refused = init(Promise.reject(new WebAssembly.CompileError(message)));
    await assert.rejects(refused, (error) => error.code === 'init.csp' && error.message.includes("'wasm-unsafe-eval'"));
  }
  assert.throws(() => Model.load(new Uint8Array()), coded('init.missing'));
  assert.throws(() => initSync(Uint8Array.of(0)), coded('init.failed'));
  initSync(new WebAssembly.Module(readFileSync(new URL('../dist/nearfield_bg.wasm', import.meta.url))));
  await init(Promise.reject(new Error('it is loaded')).catch(() => undefined));
  assert.equal(init(), init());
  assert.throws(() => Model.load(new Uint8Array()), coded('pack.foreign'));
});
