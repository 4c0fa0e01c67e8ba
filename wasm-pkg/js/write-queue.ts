// Writes to storage one after another, and joins those that wait.

import type { StorageAdapter, StorageKey } from './storage.js';

/** What is to be written, read at the moment of writing. */
export type Sources = Record<StorageKey, () => Uint8Array | undefined>;

/** Writes state, token and model to a storage, never two writes at once. */
export class WriteQueue {
  /** Where writes go from now on. */
  storage: StorageAdapter;
  readonly #sources: Sources;
  #dirty = new Set<StorageKey>();
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(storage: StorageAdapter, sources: Sources) {
    this.storage = storage;
    this.#sources = sources;
  }

  /**
   * Resolves once what is there now is durable; rejects if it could not be written.
   * All keys named before the write begins go into one atomic `put`.
   */
  save(...keys: StorageKey[]): Promise<void> {
    for (const key of keys) this.#dirty.add(key);
    this.#next ??= this.#writing
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        const entries: Partial<Record<StorageKey, Uint8Array>> = {};
        for (const key of this.#dirty) {
          const bytes = this.#sources[key]();
          if (bytes !== undefined) entries[key] = bytes;
        }
        const written = this.#dirty;
        this.#dirty = new Set();
        return (this.#writing = this.storage.put(entries).catch((thrown: unknown) => {
          // Still unwritten: the next save takes it along.
          for (const key of written) this.#dirty.add(key);
          throw thrown;
        }));
      });
    return this.#next;
  }

  /** Deletes keys, after whatever is being written. */
  async remove(...keys: StorageKey[]): Promise<void> {
    await this.#writing.catch(() => undefined);
    for (const key of keys) this.#dirty.delete(key);
    await (this.#writing = this.storage.put(Object.fromEntries(keys.map((key) => [key, null]))));
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    while (this.#next) await this.#next.catch(() => undefined);
    await this.#writing.catch(() => undefined);
  }
}
