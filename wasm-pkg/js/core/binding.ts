// The wasm module: found, compiled once, and named by types of our own, so that the published
// declarations need nothing of wasm-bindgen's.

import { __wbg_reset_state, initSync as begin } from '../../pkg/nearfield.js';
import { NearfieldError, asNearfieldError } from '../error.js';

/** Where the `.wasm` may come from; without one it is read from next to this module. */
export type WasmSource = URL | string | BufferSource | Response | WebAssembly.Module;

let find: () => WasmSource | Promise<WasmSource> = () => new URL('nearfield_bg.wasm', import.meta.url);
let started: Promise<void> | undefined;
let ready = false;

/** @internal Tells where `init` finds the module in a host where it is not to be fetched from beside the script. */
export function findModule(inHost: typeof find): void {
  find = inHost;
}

/**
 * Loads the core. Idempotent: later calls give the first one's promise, whatever they are given.
 *
 * Without a source the module comes from where the package's entry for this host has it: a page fetches
 * `nearfield_bg.wasm` from next to the script, Node reads it from the disk, an edge worker imports it.
 * `Nearfield.open` calls it, so that only low-level use needs it.
 */
export function init(source?: WasmSource | Promise<WasmSource>): Promise<void> {
  started ??= load(source ?? find()).catch((thrown: unknown) => {
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
    begin({ module });
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

async function load(source: WasmSource | Promise<WasmSource>): Promise<void> {
  const module = await compile(await source);
  // `initSync` may have been faster.
  if (ready) return;
  begin({ module });
  ready = true;
}

/** Compiles the module while it arrives, where the server says what it is. */
async function compile(source: WasmSource): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  const from = typeof source === 'string' || source instanceof URL ? await fetch(source) : source;
  if (!(from instanceof Response)) return WebAssembly.compile(from);
  if (!from.ok) throw new NearfieldError('init.failed', `${from.url} answered with ${from.status}`);
  const streams = from.headers.get('content-type') === 'application/wasm';
  return streams ? WebAssembly.compileStreaming(from) : WebAssembly.compile(await from.arrayBuffer());
}

let instances = 0;
const onReset = new Set<() => void>();

/** Which instance of the module is in use: another one after each trap. */
export function instance(): number {
  return instances;
}

/** Begins again with a fresh instance: every value of the one before is lost. */
export function reset(): void {
  __wbg_reset_state();
  instances += 1;
  for (const listener of [...onReset]) listener();
}

/** Calls `listener` after each reset, and returns how to stop that. */
export function afterReset(listener: () => void): () => void {
  onReset.add(listener);
  return () => void onReset.delete(listener);
}

/** @internal Throws `init.missing` before `init`. */
export function mustBeLoaded(): void {
  if (!ready) throw new NearfieldError('init.missing', 'the core is not loaded: await init() first');
}
