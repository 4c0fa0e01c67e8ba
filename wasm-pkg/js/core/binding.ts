// The wasm module: found, compiled once, and named by types of our own, so that the published
// declarations need nothing of wasm-bindgen's.

import start, * as core from '../../pkg/nearfield.js';
import { NearfieldError, asNearfieldError } from '../error.js';

/** Where the `.wasm` may come from; without one it is read from next to this module. */
export type WasmSource = URL | string | BufferSource | Response | WebAssembly.Module;

let started: Promise<void> | undefined;
let ready = false;

/**
 * Loads the core. Idempotent: later calls give the first one's promise, whatever they are given.
 *
 * A page fetches `nearfield_bg.wasm` from next to this module; Node reads it from there.
 * `Nearfield.open` calls it, so that only low-level use needs it.
 */
export function init(source?: WasmSource | Promise<WasmSource>): Promise<void> {
  started ??= load(source).catch((thrown: unknown) => {
    // A failed download must not stay the answer for good.
    started = undefined;
    throw initError(thrown);
  });
  return started;
}

/** Loads the core from a compiled module or its bytes, at once. Idempotent, like `init`. */
export function initSync(module: WebAssembly.Module | BufferSource): void {
  if (ready) return;
  try {
    core.initSync({ module });
  } catch (thrown) {
    throw initError(thrown);
  }
  ready = true;
  started = Promise.resolve();
}

/** Says what is missing where a page's policy forbids WebAssembly. */
function initError(thrown: unknown): NearfieldError {
  // Chromium and Safari name the source that is missing, Firefox the policy.
  if (thrown instanceof Error && /unsafe-eval|\bCSP\b|content security policy/i.test(thrown.message)) {
    const message = "the page's Content-Security-Policy forbids WebAssembly: add 'wasm-unsafe-eval' to script-src";
    return new NearfieldError('init.csp', message, { cause: thrown });
  }
  return asNearfieldError(thrown, 'init.failed');
}

async function load(source?: WasmSource | Promise<WasmSource>): Promise<void> {
  let from = await (source ?? new URL('nearfield_bg.wasm', import.meta.url));
  if (from instanceof URL && from.protocol === 'file:' && isNode()) {
    // Named by a variable, so that bundlers for pages do not look for it.
    const files = 'node:fs/promises';
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ files);
    from = (await readFile(from)) as BufferSource;
  }
  if (ready) return;
  await start({ module_or_path: from });
  ready = true;
}

function isNode(): boolean {
  return typeof (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node === 'string';
}

let instances = 0;
const onReset = new Set<() => void>();

/** Which instance of the module is in use: another one after each trap. */
export function instance(): number {
  return instances;
}

/** Begins again with a fresh instance: every value of the one before is lost. */
export function reset(): void {
  core.__wbg_reset_state();
  instances += 1;
  for (const listener of [...onReset]) listener();
}

/** Calls `listener` after each reset, and returns how to stop that. */
export function afterReset(listener: () => void): () => void {
  onReset.add(listener);
  return () => void onReset.delete(listener);
}

/** @internal The functions of the core. Throws `init.missing` before `init`. */
export function raw(): typeof core {
  if (!ready) throw new NearfieldError('init.missing', 'the core is not loaded: await init() first');
  return core;
}
