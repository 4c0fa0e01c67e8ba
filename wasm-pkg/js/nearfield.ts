// One person on one site: learns, ranks, keeps, and syncs in the background.

import { init } from './binding.js';
import { Central } from './central.js';
import { consentFrom, type Consent } from './consent.js';
import { NearfieldError, asNearfieldError } from './error.js';
import { toEvents, type TrackParameters } from './events.js';
import { Keeper } from './write_queue.js';
import { Loop, type Round } from './background.js';
import {
  Model,
  User,
  randomId,
  verifyManifest,
  type DeltaPreview,
  type HistoryEntry,
  type OutboxEntry,
  type Quality,
  type Recommendation,
  type RecommendRequest,
  type Settled,
  type Tracked,
} from './model.js';
import { indexedDbStorage, memoryStorage, type StorageAdapter, type StorageKey } from './storage.js';

/** How to open. */
export interface OpenOptions {
  /** Address of central. Without one nothing is ever requested, and `model` must be given. */
  endpoint?: string;
  /** Central's public key, 64 hexadecimal digits. Needed with `endpoint` unless `model` is a `Model`. */
  publicKey?: string;
  /** The site's name, as central has it. */
  site: string;
  /** Where to keep what was learnt (default: IndexedDB where there is one, else memory). */
  storage?: 'indexeddb' | 'memory' | StorageAdapter;
  /** What the person agreed to (default: keep and share, but not share under GPC or Do Not Track). */
  consent?: Partial<Consent>;
  /** A model to begin with: a pack, or a `Model` that many users share, which this never updates. */
  model?: Model | Uint8Array;
  /** The clock, in Unix milliseconds (default: `Date.now`). */
  now?: () => number;
  /** Milliseconds between looks for a newer model (default 60000; 0: only when asked). */
  syncEveryMs?: number;
  /** Milliseconds without an event after which what was learnt goes out (default 60000). */
  idleMs?: number;
}

/** All that is kept about the person. */
export interface Inspection {
  version: number;
  lineage: string;
  /** Rows of the model's catalogue. */
  items: number;
  /** What the person did, newest last. */
  history: HistoryEntry[];
  /** Deltas that wait to be acknowledged. */
  outbox: OutboxEntry[];
  quality: Quality;
  /** Bytes of the state, all of the above included. */
  stateBytes: number;
  consent: Consent;
}

/** A delta that was sent in this page. */
export interface SentDelta extends Settled {
  bytes: number;
  items: number;
  time_ms: number;
}

/** What one sync did. */
export interface SyncReport {
  /** Deltas that were answered. */
  sent: SentDelta[];
  /** The version held now. */
  version: number;
  /** Whether the model changed. */
  updated: boolean;
}

/** The events of `on`, and what their listeners are given. */
export interface NearfieldEvents {
  /** The list may have changed: ask `recommend` again. */
  recommendations: { reason: 'event' | 'model' | 'forget' };
  /** A newer model is in use. */
  model: { lineage: string; version: number; from: number; via: 'patch' | 'pack'; bytes: number };
  /** Central answered deltas. */
  sync: SyncReport;
  /** Something failed in the background; the last good model and state stay in use. */
  error: NearfieldError;
}

const SENT_MAX = 500;
// A choice: a page that gets a new model every second need not write megabytes every second.
const MODEL_SAVE_MS = 10_000;

/**
 * One person's recommender in this page.
 *
 * ```js
 * const nf = await Nearfield.open({ endpoint: 'https://central.example', publicKey, site: 'shop' });
 * nf.track('view_item', { items: [{ item_id: 'tent-2' }] });
 * for (const { item_id } of nf.recommend({ count: 12 })) show(item_id);
 * ```
 */
export class Nearfield {
  /** What was sent in this page, oldest first. */
  readonly sent: SentDelta[] = [];

  readonly #site: string;
  readonly #publicKey: string | undefined;
  readonly #central: Central | undefined;
  readonly #now: () => number;
  readonly #idleMs: number;
  readonly #ownsModel: boolean;
  readonly #keeper: Keeper;
  readonly #loop: Loop<SyncReport>;
  readonly #options: OpenOptions;
  readonly #unlisten: (() => void)[] = [];
  readonly #listeners = new Map<keyof NearfieldEvents, Set<(detail: never) => void>>();
  #model: Model;
  #user: User;
  #token: Uint8Array | undefined;
  /** The id of the next delta, kept beside the state: see `#leave`. */
  #nextId = randomId();
  /** The last id that storage is known to have. */
  #durableId: Uint8Array | undefined;
  #consent: Consent;
  #lastEventAt = -Infinity;
  #modelSavedAt = -Infinity;
  #modelUnsaved = false;
  /** The outbox holds a delta that storage may not have. */
  #outboxUnsaved = false;
  /** Without consent the storage is memory, and the chosen one is not even opened. */
  #storageOpened: boolean;
  /** Central's last answer named a newer model. */
  #newerOffered = false;
  #unheardErrors: NearfieldError[] = [];
  #closed = false;
  #freed = false;

  private constructor(options: OpenOptions, opened: Opened) {
    this.#options = options;
    this.#site = options.site;
    this.#publicKey = options.publicKey;
    this.#central = opened.central;
    this.#now = options.now ?? Date.now;
    this.#idleMs = options.idleMs ?? 60_000;
    this.#ownsModel = !(options.model instanceof Model);
    this.#consent = opened.consent;
    this.#model = opened.model;
    this.#user = opened.user;
    this.#token = opened.token;
    this.#storageOpened = opened.consent.personalise;
    this.#keeper = new Keeper(opened.storage, {
      state: () => this.#user.toBytes(),
      next: () => this.#nextId,
      token: () => this.#token,
      model: () => this.#model.toPack(),
    });
    const everyMs = opened.central ? (options.syncEveryMs ?? 60_000) : 0;
    this.#loop = new Loop(
      everyMs,
      (round) => this.#round(round),
      (thrown) => this.#report(thrown, 'sync.failed'),
    );
    for (const error of opened.errors) this.#report(error, 'storage.failed');
    if (opened.modelIsNew) this.#saveModel();
    this.#watchPage();
    if (opened.nextId && this.#sends()) {
      // What was left unsaid may have been said under this id while the last page went away: it
      // goes out under it before anything new joins it, and central counts it once.
      this.#nextId = opened.nextId;
      this.#take();
      this.#nextId = randomId();
    }
    if (opened.central) {
      if (everyMs > 0) this.#loop.wake(opened.modelIsNew ? everyMs : 0);
      else if (this.#user.outbox().length > 0) this.#loop.wake(0);
    }
  }

  /**
   * Opens: state and last good model from storage, or else the model from central.
   *
   * Rejects with `central.*`, `manifest.*` or `pack.*` if there is no model yet and none can be had.
   */
  static async open(options: OpenOptions): Promise<Nearfield> {
    return open(options, undefined, (opened) => new Nearfield(options, opened));
  }

  /** Opens with a state that `snapshot` gave, instead of the stored one. Throws `state.*`. */
  static async restore(state: Uint8Array, options: OpenOptions): Promise<Nearfield> {
    return open(options, state, (opened) => new Nearfield(options, opened));
  }

  /** The model in use; its version changes as newer ones arrive. */
  get model(): Model {
    return this.#model;
  }

  /**
   * Learns from one event: GA4 names (`view_item`, `select_item`, `add_to_cart`, …) or plain kinds.
   *
   * Each item counts as one event. All of them are learnt or, when one is refused, none: then this
   * throws a `NearfieldError` with `code` `event.*`, the `field` and the `limit`.
   */
  track(kind: string, parameters: TrackParameters | string): Tracked {
    this.#mustBeOpen();
    const now = this.#now();
    const tracked = this.#user.learn(this.#model, toEvents(kind, parameters, now), now);
    this.#lastEventAt = performance.now();
    this.#saveState();
    if (this.#sends()) this.#loop.wake(this.#user.deltaDue(now) ? 0 : this.#idleMs);
    if (tracked.applied > 0) this.#emit('recommendations', { reason: 'event' });
    return tracked;
  }

  /** The person's list, best first, at once. */
  recommend(request: RecommendRequest = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#user.recommend(this.#model, request).items();
  }

  /** The most popular items: the same for everyone. */
  popular({ count = 20 }: { count?: number } = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#model.popular(count).items();
  }

  /** The items most like this one. */
  similar(item_id: string, { count = 20 }: { count?: number } = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#model.similar(item_id, count).items();
  }

  /** Sends what was learnt and looks for a newer model, now. It also happens by itself. */
  async sync(): Promise<SyncReport> {
    this.#mustBeOpen();
    if (!this.#central) throw new NearfieldError('sync.no_endpoint', 'no endpoint was given to sync with', { field: 'endpoint' });
    return this.#loop.run({ flush: true, poll: true });
  }

  /** All that is kept about the person on this device. */
  inspect(): Inspection {
    this.#mustBeOpen();
    return {
      version: this.#model.version,
      lineage: this.#model.lineage,
      items: this.#model.length,
      history: this.#user.history(this.#model),
      outbox: this.#user.outbox(),
      quality: this.#user.quality(),
      stateBytes: this.#user.toBytes().length,
      consent: { ...this.#consent },
    };
  }

  /** What would be sent now, word for word; null if there is nothing to say or no consent to say it. */
  inspectDelta(): DeltaPreview | null {
    this.#mustBeOpen();
    return this.#consent.share ? this.#user.previewDelta(this.#model) : null;
  }

  /** The person's state as bytes, for `restore`. */
  snapshot(): Uint8Array {
    this.#mustBeOpen();
    return this.#user.toBytes();
  }

  /**
   * Changes the consent and gives the one in force. Without `personalise` the stored state is
   * deleted and all goes on in memory; without `share` what was not sent yet is dropped and never
   * sent.
   */
  async consent(changes: Partial<Consent> = {}): Promise<Consent> {
    this.#mustBeOpen();
    const before = this.#consent;
    this.#consent = consentFrom({ ...before, ...changes });
    const { personalise, share } = this.#consent;
    // What was done without consent to share must not go out after it is given, and what waits
    // must not go out after it is taken back.
    if (share !== before.share) this.#user.discardDeltas();
    if (before.personalise && !personalise) {
      await this.#keeper.remove('state', 'next', 'token', 'model');
    } else if (personalise) {
      if (!this.#storageOpened) {
        const errors: NearfieldError[] = [];
        this.#keeper.storage = await openStorage(this.#options, errors);
        this.#storageOpened = true;
        for (const error of errors) this.#report(error, 'storage.unavailable');
      }
      this.#saveState();
      if (!before.personalise) this.#saveModel(true);
    }
    return { ...this.#consent };
  }

  /** Forgets the person: history, taste, outbox and token, in memory and in storage. */
  async forget(): Promise<void> {
    this.#mustBeOpen();
    const old = this.#user;
    this.#user = new User();
    this.#token = undefined;
    this.#nextId = randomId();
    old.free();
    this.#emit('recommendations', { reason: 'forget' });
    await this.#keeper.remove('state', 'next', 'token');
  }

  /** Calls `listener` at every such event, and returns how to stop that. */
  on<Name extends keyof NearfieldEvents>(name: Name, listener: (detail: NearfieldEvents[Name]) => void): () => void {
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener as (detail: never) => void);
    if (name === 'error') {
      // What failed while opening happened before anybody could listen.
      for (const error of this.#unheardErrors.splice(0)) this.#emit('error', error);
    }
    return () => void listeners.delete(listener as (detail: never) => void);
  }

  /** Ends the background work, writes what is unwritten, and frees the memory. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const unlisten of this.#unlisten) unlisten();
    await this.#loop.stop();
    if (this.#consent.personalise && this.#ownsModel && this.#modelUnsaved) {
      await this.#keeper.save('model').catch(() => undefined);
    }
    await this.#keeper.idle();
    this.#keeper.storage.close?.();
    this.#freed = true;
    this.#user.free();
    if (this.#ownsModel) this.#model.free();
  }

  async #round(round: Round): Promise<SyncReport> {
    const from = this.#model.version;
    const sent: SentDelta[] = [];
    let failure: unknown;
    try {
      await this.#send(round, sent);
    } catch (thrown) {
      // A model can still be had while deltas are not taken for the moment.
      failure = thrown;
    }
    // A page that nobody looks at needs no newer model until it is looked at.
    const hidden = !round.flush && globalThis.document?.visibilityState === 'hidden';
    if ((round.poll || this.#newerOffered) && !hidden) await this.#poll();
    if (failure) throw failure;
    return { sent, version: this.#model.version, updated: this.#model.version !== from };
  }

  /** Whether deltas go out at all. */
  #sends(): boolean {
    return this.#central !== undefined && this.#consent.share;
  }

  async #send({ flush = false }: Round, sent: SentDelta[]): Promise<void> {
    const central = this.#central;
    if (!central || !this.#sends()) return;
    const now = this.#now();
    const idleInMs = this.#lastEventAt + this.#idleMs - performance.now();
    if (flush || idleInMs <= 0 || this.#user.deltaDue(now)) {
      while (this.#take());
    } else {
      // Woken early, or for another reason: the idle time is still to come.
      this.#loop.wake(idleInMs);
    }
    // The id is durable before the first send: after a crash the same delta goes out again, and
    // central counts it once.
    if (this.#outboxUnsaved) {
      await this.#save();
      this.#outboxUnsaved = false;
    }
    while (this.#sends() && this.#user.outbox().length > 0) {
      if (!this.#token) {
        this.#token = await central.device();
        await this.#keeper.save('token');
      }
      const user = this.#user;
      const oldest = user.outbox()[0]?.id;
      const answer = await central.sync(user.encodeSync(this.#site, this.#token), false);
      sent.push(...this.#settle(user, answer));
      // Asking again at once would get the same answer.
      if (user === this.#user && user.outbox()[0]?.id === oldest) {
        throw new NearfieldError('sync.unanswered', 'central answered none of the deltas that were sent');
      }
    }
  }

  /**
   * Sends what is unsaid while the page goes away: there is no time to write first.
   *
   * So the id was written before, beside the state. Should this write be lost, the next visit finds
   * the same unsaid events and the same id, and says them again under it.
   */
  #leave(): void {
    if (this.#modelUnsaved) this.#saveModel(true);
    const central = this.#central;
    if (!central || !this.#sends()) return;
    const idIsDurable = this.#durableId === this.#nextId;
    if (!this.#take()) return;
    this.#saveState();
    const token = this.#token;
    if (!token || !idIsDurable) return this.#loop.wake(0);
    const user = this.#user;
    central
      .sync(user.encodeSync(this.#site, token), true)
      .then((answer) => this.#settle(user, answer))
      .catch((thrown: unknown) => {
        this.#report(thrown, 'sync.failed');
        this.#loop.wake(this.#idleMs);
      });
  }

  /** Moves what is unsaid into the outbox; false if there is nothing. */
  #take(): boolean {
    if (!this.#user.takeDelta(this.#model, this.#nextId)) return false;
    this.#nextId = randomId();
    this.#outboxUnsaved = true;
    return true;
  }

  /** Takes central's answer, and gives what it settled. */
  #settle(user: User, answer: Uint8Array): SentDelta[] {
    // Forgotten or closed meanwhile: the answer is about nobody.
    if (user !== this.#user || this.#freed) return [];
    const waiting = new Map(user.outbox().map((entry) => [entry.id, entry]));
    const { results, lineage, version } = user.settle(answer);
    const settled: SentDelta[] = [];
    for (const result of results) {
      const entry = waiting.get(result.id);
      if (entry) settled.push({ ...result, bytes: entry.bytes, items: entry.items, time_ms: this.#now() });
    }
    this.sent.push(...settled);
    if (this.sent.length > SENT_MAX) this.sent.splice(0, this.sent.length - SENT_MAX);
    if (results.some((result) => result.reason === 'token')) this.#token = undefined;
    this.#newerOffered = lineage !== this.#model.lineage || version > this.#model.version;
    this.#saveState();
    this.#emit('sync', { sent: settled, version: this.#model.version, updated: false });
    return settled;
  }

  async #poll(): Promise<void> {
    const central = this.#central;
    if (!central || !this.#publicKey || !this.#ownsModel) return;
    this.#newerOffered = false;
    const held = { lineage: this.#model.lineage, version: this.#model.version };
    const manifest = verifyManifest(await central.manifest(), this.#publicKey, this.#site, held, this.#now());
    try {
      if (manifest.lineage === held.lineage && manifest.version === held.version) return;
      let via: 'patch' | 'pack' = 'pack';
      let bytes = manifest.lineage === held.lineage ? manifest.patchBytes(held.version) : undefined;
      if (bytes !== undefined) {
        try {
          const patch = await central.patch(held.version, manifest.version);
          manifest.checkPatch(held.version, patch);
          this.#model.apply(patch);
          via = 'patch';
        } catch (thrown) {
          // The model is unchanged: a patch that does not fit leaves the whole pack to be had.
          this.#report(thrown, 'patch.failed');
        }
      }
      if (via === 'pack') {
        const pack = await central.pack(manifest.version);
        manifest.checkPack(pack);
        const newer = Model.load(pack);
        const old = this.#model;
        this.#model = newer;
        old.free();
        bytes = pack.length;
      }
      const { lineage, version } = this.#model;
      this.#saveModel();
      this.#emit('model', { lineage, version, from: held.version, via, bytes: bytes ?? 0 });
      this.#emit('recommendations', { reason: 'model' });
    } finally {
      manifest.free();
    }
  }

  /** Resolves once the state, and the id of the delta to come, are durable. */
  async #save(): Promise<void> {
    const id = this.#nextId;
    await this.#keeper.save('state', 'next');
    this.#durableId = id;
  }

  #saveState(): void {
    if (!this.#consent.personalise) return;
    this.#save().catch((thrown: unknown) => this.#report(thrown, 'storage.failed'));
  }

  #saveModel(hurry = false): void {
    if (!this.#consent.personalise || !this.#ownsModel) return;
    this.#modelUnsaved = true;
    const now = performance.now();
    if (!hurry && now - this.#modelSavedAt < MODEL_SAVE_MS) return;
    this.#modelSavedAt = now;
    this.#modelUnsaved = false;
    this.#keeper.save('model').catch((thrown: unknown) => this.#report(thrown, 'storage.failed'));
  }

  #watchPage(): void {
    const { document } = globalThis;
    if (!document) return;
    const leave = () => this.#leave();
    const turn = () => (document.visibilityState === 'hidden' ? leave() : this.#loop.wake(0));
    const online = () => this.#loop.wake(0);
    document.addEventListener('visibilitychange', turn);
    globalThis.addEventListener('pagehide', leave);
    globalThis.addEventListener('online', online);
    this.#unlisten.push(
      () => document.removeEventListener('visibilitychange', turn),
      () => globalThis.removeEventListener('pagehide', leave),
      () => globalThis.removeEventListener('online', online),
    );
  }

  #emit<Name extends keyof NearfieldEvents>(name: Name, detail: NearfieldEvents[Name]): void {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        (listener as (detail: NearfieldEvents[Name]) => void)(detail);
      } catch (thrown) {
        // A listener's mistake is the page's to see, and not ours to stop for.
        queueMicrotask(() => {
          throw thrown;
        });
      }
    }
  }

  #report(thrown: unknown, code: string): void {
    const error = asNearfieldError(thrown, code);
    if (this.#listeners.get('error')?.size) this.#emit('error', error);
    else this.#unheardErrors = [...this.#unheardErrors.slice(-19), error];
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new NearfieldError('nearfield.closed', 'this Nearfield is closed');
  }
}

interface Opened {
  central: Central | undefined;
  storage: StorageAdapter;
  consent: Consent;
  model: Model;
  /** The model did not come from storage. */
  modelIsNew: boolean;
  user: User;
  nextId: Uint8Array | undefined;
  token: Uint8Array | undefined;
  /** What failed on the way without stopping it. */
  errors: NearfieldError[];
}

async function open<T>(options: OpenOptions, snapshot: Uint8Array | undefined, finish: (opened: Opened) => T): Promise<T> {
  checkOptions(options);
  await init();
  const errors: NearfieldError[] = [];
  const consent = consentFrom(options.consent);
  const central = options.endpoint === undefined ? undefined : new Central(options.endpoint);
  const storage = consent.personalise ? await openStorage(options, errors) : memoryStorage();
  const kept = async (key: StorageKey) => {
    try {
      return await storage.get(key);
    } catch (thrown) {
      errors.push(asNearfieldError(thrown, 'storage.failed'));
      return undefined;
    }
  };

  const stored = snapshot ? undefined : await kept('state');
  let user: User;
  try {
    user = new User(snapshot ?? stored);
  } catch (thrown) {
    if (snapshot) throw thrown;
    // A damaged state is worth less than a shop that opens; the person is told by the event.
    errors.push(asNearfieldError(thrown, 'state.damaged'));
    user = new User();
  }

  let modelIsNew = false;
  let model: Model | undefined = options.model instanceof Model ? options.model : undefined;
  const pack = model ? undefined : await kept('model');
  if (pack) {
    try {
      model = Model.load(pack);
    } catch (thrown) {
      errors.push(asNearfieldError(thrown, 'pack.damaged'));
    }
  }
  if (!model) {
    model = options.model instanceof Uint8Array ? Model.load(options.model) : await download(options, central);
    modelIsNew = true;
  }
  const token = await kept('token');
  const nextId = stored && (await kept('next'));
  return finish({ central, storage, consent, model, modelIsNew, user, nextId, token, errors });
}

async function download(options: OpenOptions, central: Central | undefined): Promise<Model> {
  if (!central) throw new NearfieldError('options.model', 'without an endpoint a model must be given', { field: 'model' });
  const now = (options.now ?? Date.now)();
  const manifest = verifyManifest(await central.manifest(), options.publicKey ?? '', options.site, undefined, now);
  try {
    const pack = await central.pack(manifest.version);
    manifest.checkPack(pack);
    return Model.load(pack);
  } finally {
    manifest.free();
  }
}

async function openStorage({ storage, site }: OpenOptions, errors: NearfieldError[]): Promise<StorageAdapter> {
  if (typeof storage === 'object') return storage;
  if (storage === 'memory' || (storage === undefined && !('indexedDB' in globalThis))) return memoryStorage();
  try {
    return await indexedDbStorage(site);
  } catch (thrown) {
    // Private windows may refuse a database: the visit goes on in memory, and the event says so.
    errors.push(asNearfieldError(thrown, 'storage.unavailable'));
    return memoryStorage();
  }
}

function checkOptions(options: OpenOptions): void {
  const { endpoint, publicKey, site, model } = options;
  if (typeof site !== 'string' || site === '') {
    throw new NearfieldError('options.site', 'site must be a non-empty string', { field: 'site' });
  }
  if (endpoint !== undefined && !URL.canParse(endpoint)) {
    throw new NearfieldError('options.endpoint', 'endpoint must be an absolute URL', { field: 'endpoint' });
  }
  const needsKey = endpoint !== undefined && !(model instanceof Model);
  if (needsKey && !/^[0-9a-f]{64}$/i.test(publicKey ?? '')) {
    throw new NearfieldError('options.publicKey', 'publicKey must be 64 hexadecimal digits', { field: 'publicKey' });
  }
}
