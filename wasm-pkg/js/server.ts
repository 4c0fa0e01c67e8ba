/**
 * Many people beside one model, for servers and edge workers: one copy of the model for the whole program, brought up
 * to the newest signed version, and a person for each who is there.
 *
 * @packageDocumentation
 */

import { bringUp, receive, type Source } from './central/update.js';
import { Nearfield, NearfieldError, init, verifyManifest, type HeldModel, type Model, type OpenOptions, type StorageAdapter } from 'nearfield';

/** Where a model comes from. */
export interface SharedModelOptions {
  /** Address of central. */
  endpoint: string;
  /** Central's public key, 64 hexadecimal digits. */
  publicKey: string;
  /** The site's name, as central has it. */
  site: string;
  /** Milliseconds between looks for a newer version (default 60000). */
  everyMs?: number;
  /** Is told what went wrong while the last good model stays in use. */
  onError?: (error: NearfieldError) => void;
}

/**
 * Gives the site's newest model whenever it is asked, and looks for a newer one as part of that: no timer runs, since
 * edge workers have none outside a request. While central is away the last good model stays.
 *
 * The model is brought up in place where a patch fits, so that whoever holds it has the newest. Rejects with
 * `central.*`, `manifest.*` or `pack.*` where there is none yet and none can be had.
 */
export function sharedModel({ endpoint, publicKey, site, everyMs = 60_000, onError }: SharedModelOptions): () => Promise<Model> {
  let held: HeldModel | undefined;
  let lookedAt = -Infinity;
  const get = async (path: string) => {
    const response = await fetch(`${endpoint.replace(/\/+$/, '')}/v1/model/${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) }).catch((cause: unknown) => {
      throw new NearfieldError('central.unreachable', `${path} could not be reached`, { cause });
    });
    if (!response.ok) throw new NearfieldError('central.status', `${path} answered ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
  const source: Source = {
    patch: (from, to) => get(`${from}..${to}.patch`),
    pack: async function* (version) {
      yield await get(`${version}.pack`);
    },
  };
  /** Gives the newest model, on top of what was held when it began. */
  const look = async (before: HeldModel | undefined): Promise<HeldModel> => {
    const signed = await get('latest');
    const manifest = await verifyManifest(signed, publicKey, site, before, Date.now());
    try {
      if (!before) return { model: (await receive(source.pack(manifest.version), manifest, false)).model, manifest: signed };
      const brought = await bringUp(source, manifest, before.model, false, (thrown) => onError?.(thrown as NearfieldError));
      // Whoever holds a model that another one takes the place of may still use it: the collector frees it.
      const model = brought?.model ?? before.model;
      return { model, manifest: signed };
    } finally {
      manifest.free();
    }
  };
  return async () => {
    const now = Date.now();
    if (held && now - lookedAt < everyMs) return held.model;
    // At once, so that one request looks and the others go on with what there is. They share no promise, since a
    // worker's request must not wait for what another one fetches.
    lookedAt = now;
    try {
      await init();
      const looked = await look(held);
      // Whoever looked at the same time may have been first: then all go on with that one's model.
      if (!held || looked.model.version > held.model.version || looked.model === held.model) held = looked;
    } catch (thrown) {
      if (!held) throw thrown;
      onError?.(thrown as NearfieldError);
    }
    return held.model;
  };
}

// A choice, as for a page: longer than any honest answer takes.
const TIMEOUT_MS = 30_000;

/** How people are kept. */
export interface PeopleOptions extends SharedModelOptions {
  /** What gives the model (default: `sharedModel` of these options), for several that are to share one. */
  model?: () => Promise<Model>;
  /** Where a person is kept; the model is not among it. */
  storage: (person: string) => StorageAdapter;
  /** What a person agreed to, where it is not what storage remembers. */
  consent?: (person: string) => OpenOptions['consent'];
  /** People in memory at once (default 10000); who was there longest ago is closed first. */
  max?: number;
}

/** The people of a server: each is opened when needed, and closed when others need the room. */
export class People {
  readonly #options: PeopleOptions;
  readonly #max: number;
  readonly #model: () => Promise<Model>;
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>();

  constructor(options: PeopleOptions) {
    this.#options = options;
    this.#max = options.max ?? 10_000;
    if (!(Number.isInteger(this.#max) && this.#max > 0)) {
      throw new NearfieldError('options.max', 'max must be a whole number from 1', { field: 'max' });
    }
    this.#model = options.model ?? sharedModel(options);
  }

  /** People in memory. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Gives what `work` gives of the person, who stays open as long as that runs. Calls for one person may run at the
   * same time; `await nf.flush()` before answering whoever must be sure that it is kept.
   */
  async with<T>(person: string, work: (nf: Nearfield) => T | Promise<T>): Promise<T> {
    const model = await this.#model();
    let entry = this.#entries.get(person);
    // A model that took another one's place: the person is opened again with it, once the last call has ended.
    while (entry && (entry.closing || (entry.model !== model && entry.uses === 0))) {
      await this.#close(person, entry);
      entry = this.#entries.get(person);
    }
    entry ??= this.#open(person, model);
    this.#entries.delete(person);
    this.#entries.set(person, entry);
    entry.uses += 1;
    try {
      return await work(await entry.opened);
    } finally {
      entry.uses -= 1;
      this.#makeRoom();
    }
  }

  /** Closes everyone, and resolves once all is written. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries].map(([person, entry]) => this.#close(person, entry)));
  }

  #open(person: string, model: Model): Entry {
    const { endpoint, site, storage, consent } = this.#options;
    const given = consent?.(person);
    const opened = Nearfield.open({ endpoint, site, model, storage: storage(person), syncEveryMs: 0, ...(given && { consent: given }) });
    const entry: Entry = { model, opened, uses: 0, closing: undefined };
    // Tried again by whoever comes next.
    opened.catch(() => this.#entries.get(person) === entry && this.#entries.delete(person));
    return entry;
  }

  #makeRoom(): void {
    let over = this.#entries.size - this.#max;
    for (const [person, entry] of this.#entries) {
      if (over <= 0) return;
      if (entry.uses > 0) continue;
      over -= 1;
      void this.#close(person, entry);
    }
  }

  /** The person's place is given up only when all is written: until then nobody opens what is still being kept. */
  #close(person: string, entry: Entry): Promise<void> {
    return (entry.closing ??= entry.opened
      .then((nf) => nf.close())
      .catch(() => undefined)
      .finally(() => this.#entries.get(person) === entry && this.#entries.delete(person)));
  }
}

interface Entry {
  model: Model;
  opened: Promise<Nearfield>;
  /** Calls that run. */
  uses: number;
  closing: Promise<void> | undefined;
}
