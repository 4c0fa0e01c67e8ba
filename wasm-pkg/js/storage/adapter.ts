// What a storage has to do, and the one in memory.

/**
 * What is kept: `state` (with the outbox in it), which events of which tab are in it (`heard`), the
 * name of the `next` delta, `token`, the `consent` that was given, the pack of a `model` with the
 * `patches` that were applied to it, and the `manifest` that was accepted last.
 */
export type StorageKey = PersonKey | SiteKey;

/** What is kept of the site. */
export type SiteKey = 'consent' | 'model' | 'patches' | 'manifest';

/** What is kept of the person, and written together. */
export type PersonKey = 'state' | 'heard' | 'next' | 'token';

/** Bytes to write by key; `null` deletes. */
export type Entries<Key extends StorageKey = StorageKey> = Partial<Record<Key, Uint8Array | null>>;

/** How a write is to be done. */
export interface PutOptions {
  /** The write resolves only when it would outlive a power cut. */
  durable: boolean;
}

/**
 * Keeps a few named byte strings, for one person on one site.
 *
 * - `put` is atomic: after a crash either all of its entries are there or none. It outlives a crash of
 *   the program when it resolves, and a power cut where it was asked to be `durable`.
 * - `get` gives the last put bytes, or `undefined`.
 * - Calls of `put` take effect in the order in which they were made.
 * - A rejection means that nothing changed.
 */
export interface StorageAdapter {
  get(key: StorageKey): Promise<Uint8Array | undefined>;
  put(entries: Entries, options: PutOptions): Promise<void>;
  close?(): void;
}

/** Keeps everything in memory: for Node, workers and tests, and while there is no consent to keep. */
export function memoryStorage(): StorageAdapter {
  const kept = new Map<string, Uint8Array>();
  return {
    async get(key) {
      return kept.get(key)?.slice();
    },
    async put(entries) {
      for (const [key, bytes] of Object.entries(entries)) {
        if (bytes === null) kept.delete(key);
        else kept.set(key, bytes.slice());
      }
    },
  };
}
