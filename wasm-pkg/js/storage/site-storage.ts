// What the package itself asks of a storage: whole persons, and who may write them.

import type { Entries, PersonKey, PutOptions, SiteKey, StorageAdapter, StorageKey } from './adapter.js';

/** What is kept of a person. */
export type KeptPerson = Partial<Record<PersonKey, Uint8Array>>;

/**
 * Who may write the person, and which person it is. A write is refused unless both are the stored ones,
 * so that a tab that lost its turn cannot undo what another wrote, nor bring back what was forgotten.
 */
export interface Fence {
  readonly writer: string;
  /** Rises when the person is forgotten or replaced: the time of that, in Unix milliseconds. */
  readonly generation: number;
}

/** What was found. */
export interface Found {
  fence: Fence;
  kept: KeptPerson;
}

/** What belongs to the site, to write by key. */
export type SiteEntries = Entries<Exclude<SiteKey, 'model'>> & { model?: Uint8Array | Blob | null };

/** How long a claim holds. */
export interface Claim {
  writer: string;
  /** Milliseconds that the claim holds unless it is renewed; 0: until another claims. */
  leaseMs: number;
  /** Claim though another's lease holds. */
  force: boolean;
}

/** The storage of one site. */
export interface SiteStorage {
  get(key: Exclude<StorageKey, 'model'>): Promise<Uint8Array | undefined>;
  /** The pack of the model. */
  pack(): Promise<Uint8Array | Blob | undefined>;
  /**
   * Writes what belongs to the site rather than to one person's state. Rejects with
   * `storage.superseded` where nothing is kept any more.
   */
  put(entries: SiteEntries, options: PutOptions): Promise<void>;
  /** Writes the person. Rejects with `storage.superseded` where the fence is not the stored one. */
  putPerson(entries: Entries<PersonKey>, fence: Fence, options: PutOptions): Promise<void>;
  /** Makes `writer` the one that may write; undefined while another's lease holds. */
  claim(claim: Claim): Promise<Found | undefined>;
  /** The person and the fence, without a claim; undefined where nothing is kept. */
  read(): Promise<Found | undefined>;
  /** Ends a claim at once, so that another need not wait for the lease to end. */
  release(writer: string): Promise<void>;
  /**
   * Deletes the person and gives the new generation, from which on writes of the old one are refused;
   * undefined where nothing was kept at all.
   */
  forget(): Promise<number | undefined>;
  /** Deletes everything. */
  clear(): Promise<void>;
  close(): void;
}

export const PERSON_KEYS: readonly PersonKey[] = ['state', 'heard', 'next', 'token'];
const SITE_KEYS: readonly SiteKey[] = ['consent', 'model', 'patches', 'manifest'];

/** Reads what is kept of the person. */
export async function keptOf(get: (key: PersonKey) => Promise<unknown>): Promise<KeptPerson> {
  const kept: KeptPerson = {};
  for (const key of PERSON_KEYS) {
    const bytes = await get(key);
    if (bytes instanceof Uint8Array) kept[key] = bytes;
  }
  return kept;
}

/** Gives an adapter that nobody else writes to as the storage of a site. */
export function sole(adapter: StorageAdapter): SiteStorage {
  let generation = Date.now();
  const remove = (keys: readonly StorageKey[]) =>
    adapter.put(Object.fromEntries(keys.map((key) => [key, null])), { durable: true });
  return {
    get: (key) => adapter.get(key),
    pack: () => adapter.get('model'),
    put: async ({ model, ...entries }, options) => {
      const bytes = model instanceof Blob ? new Uint8Array(await model.arrayBuffer()) : model;
      await adapter.put({ ...entries, ...(bytes !== undefined && { model: bytes }) }, options);
    },
    putPerson: (entries, _fence, options) => adapter.put(entries, options),
    claim: async ({ writer }) => ({ fence: { writer, generation }, kept: await keptOf((key) => adapter.get(key)) }),
    read: async () => undefined,
    release: async () => undefined,
    async forget() {
      await remove(PERSON_KEYS);
      return (generation += 1);
    },
    clear: () => remove([...PERSON_KEYS, ...SITE_KEYS]),
    close: () => adapter.close?.(),
  };
}
