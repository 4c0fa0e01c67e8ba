// Values in the core's memory, which a trap of the core takes with it.

import { NearfieldError, asNearfieldError } from '../error.js';
import { instance, reset } from './binding.js';

/** A value of the core, in the instance that made it. */
export class Handle<Raw extends { free(): void }> {
  readonly #raw: Raw;
  readonly #instance = instance();

  constructor(raw: Raw) {
    this.#raw = raw;
  }

  /** The value. Throws `core.lost` after a trap. */
  get raw(): Raw {
    if (this.#instance !== instance()) {
      throw new NearfieldError('core.lost', 'this was lost when the core trapped: load or restore it again');
    }
    return this.#raw;
  }

  /** Gives what `call` gives of the value. Throws `core.lost` after a trap, and what `guarded` throws. */
  use<T>(call: (raw: Raw) => T): T {
    const { raw } = this;
    return guarded(() => call(raw));
  }

  free(): void {
    if (this.#instance === instance()) this.#raw.free();
  }
}

/**
 * Runs `call` and gives whatever the core throws as a `NearfieldError`. After a trap the core begins again
 * with a fresh memory, and `core.trapped` is thrown.
 */
export function guarded<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    if (!isTrap(thrown)) throw asNearfieldError(thrown, 'core.failed');
    reset();
    throw new NearfieldError('core.trapped', 'the core trapped, and begins again', { cause: thrown });
  }
}

/** Whether the core stopped half-way, so that nothing in its memory can be relied on. */
function isTrap(thrown: unknown): boolean {
  // The stack overflows with a RangeError, in Firefox with an InternalError.
  return thrown instanceof WebAssembly.RuntimeError || thrown instanceof RangeError || (thrown as Error | undefined)?.name === 'InternalError';
}
