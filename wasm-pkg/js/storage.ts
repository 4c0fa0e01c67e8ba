// Where state, outbox, token and the last good model are kept. One contract, two adapters.

import { openDB, type IDBPDatabase } from 'idb';

/**
 * What is kept: `state` (with the outbox in it), the name of the `next` delta, `token`, `model`,
 * and the `manifest` that was accepted last.
 */
export type StorageKey = 'state' | 'next' | 'token' | 'model' | 'manifest';

/**
 * Keeps a few named byte strings.
 *
 * - `put` is atomic and durable when it resolves: after a crash either all of its entries are
 *   there or none. `null` deletes a key.
 * - `get` gives the last put bytes, or `undefined`.
 * - Calls of `put` take effect in the order in which they were made.
 * - A rejection means that nothing changed.
 */
export interface StorageAdapter {
  get(key: StorageKey): Promise<Uint8Array | undefined>;
  put(entries: Partial<Record<StorageKey, Uint8Array | null>>): Promise<void>;
  close?(): void;
}

/** Keeps everything in memory: for Node, workers and tests, and while there is no consent. */
export function memoryStorage(): StorageAdapter {
  const kept = new Map<StorageKey, Uint8Array>();
  return {
    async get(key) {
      return kept.get(key)?.slice();
    },
    async put(entries) {
      for (const [key, bytes] of Object.entries(entries) as [StorageKey, Uint8Array | null][]) {
        if (bytes === null) kept.delete(key);
        else kept.set(key, bytes.slice());
      }
    },
  };
}

const STORE = 'kept';

/** Keeps everything in IndexedDB, in one database for each site: one transaction a `put`. */
export async function indexedDbStorage(site: string): Promise<StorageAdapter> {
  let database: IDBPDatabase | undefined;
  database = await openDB(`nearfield:${site}`, 1, {
    upgrade: (fresh) => void fresh.createObjectStore(STORE),
    // A newer version of this package in another tab must not wait for this one.
    blocking: () => database?.close(),
  });
  const opened = database;
  return {
    async get(key) {
      return (await opened.get(STORE, key)) as Uint8Array | undefined;
    },
    async put(entries) {
      // Strict: a delta id must be on the disk before the delta is sent.
      const transaction = opened.transaction(STORE, 'readwrite', { durability: 'strict' });
      const writes = Object.entries(entries).map(([key, bytes]) =>
        bytes === null ? transaction.store.delete(key) : transaction.store.put(bytes, key),
      );
      await Promise.all([...writes, transaction.done]);
    },
    close: () => opened.close(),
  };
}
