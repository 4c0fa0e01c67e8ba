// IndexedDB: one database for each site, one transaction for each write.

import { NearfieldError } from '../error.js';
import type { Entries, PersonKey, PutOptions, StorageKey } from './adapter.js';
import { asStorageError } from './error.js';
import { PERSON_KEYS, keptOf, type Claim, type Fence, type Found, type SiteEntries, type SiteStorage } from './site-storage.js';

const STORE = 'kept';
const FENCE = 'fence';

/** The fence as it is stored, with the end of the lease in Unix milliseconds. */
interface StoredFence extends Fence {
  until: number;
}

/** What a request gives. */
function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error as DOMException);
  });
}

/** The store in one transaction. */
class Store {
  readonly #store: IDBObjectStore;
  /** Resolves once all is written, and rejects with why nothing is. */
  readonly done: Promise<void>;

  constructor(transaction: IDBTransaction) {
    this.#store = transaction.objectStore(STORE);
    this.done = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error as DOMException);
    });
  }

  get(key: string): Promise<unknown> {
    return result(this.#store.get(key) as IDBRequest<unknown>);
  }

  put(value: unknown, key: string): Promise<unknown> {
    return result(this.#store.put(value, key));
  }

  delete(key: string): Promise<unknown> {
    return result(this.#store.delete(key));
  }

  clear(): Promise<unknown> {
    return result(this.#store.clear());
  }
}

/** The storage of a site in IndexedDB. It opens when first used, and again after it was closed. */
export class IndexedDb implements SiteStorage {
  readonly #name: string;
  #database: Promise<IDBDatabase | undefined> | undefined;
  #closed = false;

  constructor(site: string) {
    this.#name = `nearfield:${site}`;
  }

  async get(key: StorageKey): Promise<Uint8Array | undefined> {
    return this.#get(key) as Promise<Uint8Array | undefined>;
  }

  pack(): Promise<Uint8Array | Blob | undefined> {
    // As a blob since this stores packs as they are downloaded; before, as bytes.
    return this.#get('model') as Promise<Uint8Array | Blob | undefined>;
  }

  #get(key: StorageKey): Promise<unknown> {
    return this.#run('readonly', 'relaxed', false, (store) => store.get(key));
  }

  async put(entries: SiteEntries, { durable }: PutOptions): Promise<void> {
    await this.#run('readwrite', durable ? 'strict' : 'relaxed', true, async (store) => {
      if (!(await fenceOf(store))) throw superseded('nothing of this site is kept any more');
      await write(store, entries);
    });
  }

  async putPerson(entries: Entries<PersonKey>, { writer, generation }: Fence, { durable }: PutOptions): Promise<void> {
    await this.#run('readwrite', durable ? 'strict' : 'relaxed', true, async (store) => {
      const stored = await fenceOf(store);
      if (stored?.writer !== writer || stored.generation !== generation) {
        throw superseded('another tab writes this site now');
      }
      await write(store, entries);
    });
  }

  async claim({ writer, leaseMs, force }: Claim): Promise<Found | undefined> {
    return this.#run('readwrite', 'relaxed', true, async (store) => {
      const stored = await fenceOf(store);
      const now = Date.now();
      // A lease that ends later than any lease may was written by a clock that was wrong.
      const holds = stored && stored.writer !== writer && stored.until > now && stored.until <= now + leaseMs;
      if (holds && !force) return undefined;
      const fence = { writer, generation: stored?.generation ?? now };
      await store.put({ ...fence, until: now + leaseMs }, FENCE);
      return { fence, kept: await keptOf((key) => store.get(key)) };
    });
  }

  async read(): Promise<Found | undefined> {
    return this.#run('readonly', 'relaxed', false, async (store) => {
      const fence = await fenceOf(store);
      return fence && { fence, kept: await keptOf((key) => store.get(key)) };
    });
  }

  async release(writer: string): Promise<void> {
    await this.#run('readwrite', 'relaxed', false, async (store) => {
      const stored = await fenceOf(store);
      if (stored?.writer === writer) await store.put({ ...stored, until: 0 }, FENCE);
    });
  }

  async forget(): Promise<number | undefined> {
    return this.#run('readwrite', 'strict', false, async (store) => {
      const stored = await fenceOf(store);
      for (const key of PERSON_KEYS) await store.delete(key);
      if (!stored) return undefined;
      const generation = Math.max(stored.generation + 1, Date.now());
      await store.put({ ...stored, generation }, FENCE);
      return generation;
    });
  }

  async clear(): Promise<void> {
    await this.#run('readwrite', 'strict', false, (store) => store.clear());
  }

  close(): void {
    this.#closed = true;
    this.#disconnect();
  }

  /** Runs `work` in one transaction. Without `create`, a database that is not there stays so. */
  async #run<T>(
    mode: 'readonly' | 'readwrite',
    durability: IDBTransactionDurability,
    create: boolean,
    work: (store: Store) => Promise<T>,
  ): Promise<T | undefined>;
  async #run<T>(
    mode: 'readonly' | 'readwrite',
    durability: IDBTransactionDurability,
    create: true,
    work: (store: Store) => Promise<T>,
  ): Promise<T>;
  async #run<T>(
    mode: 'readonly' | 'readwrite',
    durability: IDBTransactionDurability,
    create: boolean,
    work: (store: Store) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      const transaction = await this.#transaction(mode, durability, create);
      if (!transaction) return undefined;
      const store = new Store(transaction);
      // Waited for below; until then its failure is no unhandled rejection.
      store.done.catch(() => undefined);
      try {
        const result = await work(store);
        await store.done;
        return result;
      } catch (thrown) {
        try {
          transaction.abort();
        } catch {
          // It has ended already.
        }
        // The reason of an abort says more than the request that it ended.
        throw transaction.error ?? thrown;
      }
    } catch (thrown) {
      throw asStorageError(thrown);
    }
  }

  async #transaction(mode: 'readonly' | 'readwrite', durability: IDBTransactionDurability, create: boolean) {
    for (let again = false; ; again = true) {
      const database = await this.#connect(create).catch((thrown: unknown) => {
        throw asStorageError(thrown, 'storage.unavailable');
      });
      if (!database) return undefined;
      try {
        return database.transaction(STORE, mode, { durability });
      } catch (thrown) {
        // Closed meanwhile: by the browser, or for another tab that upgrades or deletes it.
        if (again || (thrown as Error).name !== 'InvalidStateError') throw thrown;
        this.#disconnect();
      }
    }
  }

  async #connect(create: boolean): Promise<IDBDatabase | undefined> {
    if (this.#closed) throw new NearfieldError('storage.closed', 'this storage is closed');
    if (this.#database) {
      const database = await this.#database;
      if (database || !create) return database;
    }
    const opening = this.#open(create);
    this.#database = opening;
    const forgotten = () => {
      if (this.#database === opening) this.#database = undefined;
    };
    // Where there is none yet, it is looked for again: another tab may create it.
    opening.then((database) => database ?? forgotten(), forgotten);
    return opening;
  }

  #open(create: boolean): Promise<IDBDatabase | undefined> {
    return new Promise((resolve, reject) => {
      // Without a version: whatever a newer package made of it is opened as well.
      const opening = indexedDB.open(this.#name);
      let absent = false;
      opening.onupgradeneeded = () => {
        if (create) return void opening.result.createObjectStore(STORE);
        absent = true;
        opening.transaction?.abort();
      };
      opening.onerror = () => (absent ? resolve(undefined) : reject(opening.error as DOMException));
      opening.onsuccess = () => {
        const database = opening.result;
        // Another tab that upgrades or deletes the database must not wait for this one.
        database.onversionchange = () => this.#disconnect();
        database.onclose = () => (this.#database = undefined);
        if (this.#closed) database.close();
        resolve(database);
      };
    });
  }

  #disconnect(): void {
    this.#database?.then((database) => database?.close()).catch(() => undefined);
    this.#database = undefined;
  }
}

function superseded(why: string): NearfieldError {
  return new NearfieldError('storage.superseded', why);
}

async function fenceOf(store: Store): Promise<StoredFence | undefined> {
  return (await store.get(FENCE)) as StoredFence | undefined;
}

async function write(store: Store, entries: Entries | SiteEntries): Promise<void> {
  await Promise.all(
    Object.entries(entries).map(([key, bytes]) => (bytes === null ? store.delete(key) : store.put(bytes, key))),
  );
}
