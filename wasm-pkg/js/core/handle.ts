// Values in the core's memory, which a trap of the core takes with it.

import { NearfieldError, asNearfieldError } from '../error.js';
import { instance, mustBeLoaded, reset } from './binding.js';

/** Drops the value that the core calls by this number. */
type Free = (number: number) => void;

interface Place {
  readonly number: number;
  readonly instance: number;
  readonly free: Free;
}

/** What nobody holds any more is freed when the collector finds it. */
const collected = new FinalizationRegistry<Place>(free);

function free(place: Place): void {
  if (place.instance === instance()) place.free(place.number);
}

/** A value of the core, in the instance that made it. */
export class Handle {
  #place: Place | undefined;

  /** Keeps what the core calls by the number that `make` gives. */
  constructor(freedBy: Free, make: () => number) {
    this.#place = { number: guarded(make), instance: instance(), free: freedBy };
    collected.register(this, this.#place, this);
  }

  /** What the core calls the value. Throws `core.lost` after a trap, and `core.freed` after `free`. */
  get number(): number {
    const place = this.#place;
    if (!place) throw new NearfieldError('core.freed', 'this was freed and must not be used any more');
    if (place.instance === instance()) return place.number;
    throw new NearfieldError('core.lost', 'this was lost when the core trapped: load or restore it again');
  }

  /** Gives what `call` gives of the value. Throws what `number` and `guarded` throw. */
  use<T>(call: (number: number) => T): T {
    const { number } = this;
    return guarded(() => call(number));
  }

  free(): void {
    const place = this.#place;
    if (!place) return;
    this.#place = undefined;
    collected.unregister(this);
    free(place);
  }
}

/**
 * Runs `call` and gives whatever the core throws as a `NearfieldError`; throws `init.missing` before `init`.
 * After a trap the core begins again with a fresh memory, and `core.trapped` is thrown.
 */
export function guarded<T>(call: () => T): T {
  mustBeLoaded();
  try {
    return call();
  } catch (thrown) {
    if (typeof thrown === 'string') throw coreError(thrown);
    if (!isTrap(thrown)) throw asNearfieldError(thrown, 'core.failed');
    reset();
    throw new NearfieldError('core.trapped', 'the core trapped, and begins again', { cause: thrown });
  }
}

/** Reads an error of the core: `code field limit`. */
function coreError(text: string): NearfieldError {
  const [code = '', name, number] = text.split(' ');
  const field = name?.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  const limit = number ? Number(number) : undefined;
  const words = code.replace('.', ': ').replaceAll('_', ' ');
  return new NearfieldError(code, words + (field ? `, ${field}` : '') + (limit === undefined ? '' : `, the limit is ${limit}`), {
    ...(field && { field }),
    ...(limit !== undefined && { limit }),
  });
}

/** Whether the core stopped half-way, so that nothing in its memory can be relied on. */
function isTrap(thrown: unknown): boolean {
  // The stack overflows with a RangeError, in Firefox with an InternalError.
  return thrown instanceof WebAssembly.RuntimeError || thrown instanceof RangeError || (thrown as Error | undefined)?.name === 'InternalError';
}
