// One person on one site: learns, ranks, keeps, and syncs in the background.

import { BackgroundLoop } from './background.js';
import { consentFrom, type Consent } from './consent.js';
import { Device } from './device.js';
import { Emitter, type NearfieldEvents } from './emitter.js';
import { NearfieldError } from './error.js';
import { toEvents, type TrackParameters } from './events.js';
import type { Model } from './model.js';
import { open, openStorage, type Opened } from './open.js';
import type { OpenOptions } from './options.js';
import { watchPage } from './page.js';
import type { Recommendation, RecommendRequest } from './ranking.js';
import type { SentDelta, SyncReport } from './reports.js';
import { Sync } from './sync.js';
import type { DeltaPreview, HistoryEntry, OutboxEntry, Quality, Tracked } from './user.js';

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
  readonly #options: OpenOptions;
  readonly #now: () => number;
  readonly #emitter = new Emitter();
  readonly #device: Device;
  readonly #sync: Sync;
  readonly #loop: BackgroundLoop<SyncReport>;
  readonly #hasCentral: boolean;
  readonly #unwatch: () => void;
  /** Without consent the storage is memory, and the chosen one is not even opened. */
  #storageOpened: boolean;
  #closed = false;

  private constructor(options: OpenOptions, opened: Opened) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#hasCentral = opened.central !== undefined;
    this.#storageOpened = opened.consent.personalise;
    this.#device = new Device(options, opened, this.#emitter);
    this.#sync = new Sync(options, this.#device, opened, this.#emitter, (inMs) => this.#loop.wake(inMs));
    const everyMs = opened.central ? (options.syncEveryMs ?? 60_000) : 0;
    this.#loop = new BackgroundLoop(
      everyMs,
      (round) => this.#sync.round(round),
      (thrown) => this.#emitter.report(thrown, 'sync.failed'),
    );
    for (const error of opened.errors) this.#emitter.report(error, 'storage.failed');
    if (opened.modelIsNew) this.#device.saveModel();
    this.#unwatch = watchPage(
      () => this.#sync.leave(),
      () => this.#loop.wake(0),
    );
    if (opened.nextName && this.#sync.sends) this.#device.takeUnder(opened.nextName);
    if (opened.central) {
      if (everyMs > 0) this.#loop.wake(opened.modelIsNew ? everyMs : 0);
      else if (this.#device.user.outbox().length > 0) this.#loop.wake(0);
    }
  }

  /**
   * Opens: state and last good model from storage, or else the model from central.
   *
   * Rejects with `central.*`, `manifest.*` or `pack.*` if there is no model yet and none can be had.
   */
  static async open(options: OpenOptions): Promise<Nearfield> {
    return new Nearfield(options, await open(options));
  }

  /** Opens with a state that `snapshot` gave, instead of the stored one. Throws `state.*`. */
  static async restore(state: Uint8Array, options: OpenOptions): Promise<Nearfield> {
    return new Nearfield(options, await open(options, state));
  }

  /** What was sent in this page, oldest first. */
  get sent(): readonly SentDelta[] {
    return this.#sync.sent;
  }

  /** The model in use; its version changes as newer ones arrive. */
  get model(): Model {
    return this.#device.model;
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
    const tracked = this.#device.user.learn(this.#device.model, toEvents(kind, parameters, now), now);
    this.#device.saveState();
    this.#sync.learned(now);
    if (tracked.applied > 0) this.#emitter.emit('recommendations', { reason: 'event' });
    return tracked;
  }

  /** The person's list, best first, at once. */
  recommend(request: RecommendRequest = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#device.user.recommend(this.#device.model, request).items();
  }

  /** The most popular items: the same for everyone. */
  popular({ count = 20 }: { count?: number } = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#device.model.popular(count).items();
  }

  /** The items most like this one. */
  similar(item_id: string, { count = 20 }: { count?: number } = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#device.model.similar(item_id, count).items();
  }

  /** Sends what was learnt and looks for a newer model, now. It also happens by itself. */
  async sync(): Promise<SyncReport> {
    this.#mustBeOpen();
    if (!this.#hasCentral) throw new NearfieldError('sync.no_endpoint', 'no endpoint was given to sync with', { field: 'endpoint' });
    return this.#loop.run({ flush: true, poll: true });
  }

  /** All that is kept about the person on this device. */
  inspect(): Inspection {
    this.#mustBeOpen();
    return {
      version: this.#device.model.version,
      lineage: this.#device.model.lineage,
      items: this.#device.model.length,
      history: this.#device.user.history(this.#device.model),
      outbox: this.#device.user.outbox(),
      quality: this.#device.user.quality(),
      stateBytes: this.#device.user.toBytes().length,
      consent: { ...this.#device.consent },
    };
  }

  /** What would be sent now, to the byte; null if there is nothing new or no consent to share it. */
  inspectDelta(): DeltaPreview | null {
    this.#mustBeOpen();
    return this.#device.consent.share ? this.#device.user.previewDelta(this.#device.model) : null;
  }

  /** The person's state as bytes, for `restore`. */
  snapshot(): Uint8Array {
    this.#mustBeOpen();
    return this.#device.user.toBytes();
  }

  /**
   * Changes the consent and gives the one in force. Without `personalise` the stored state is
   * deleted and all continues in memory; without `share` what was not sent yet is dropped and never
   * sent.
   */
  async consent(changes: Partial<Consent> = {}): Promise<Consent> {
    this.#mustBeOpen();
    const before = this.#device.consent;
    this.#device.consent = consentFrom({ ...before, ...changes });
    const { personalise, share } = this.#device.consent;
    // What was done without consent to share must not go out after it is given, and what waits
    // must not go out after it is taken back.
    if (share !== before.share) this.#device.user.discardDeltas();
    if (before.personalise && !personalise) {
      await this.#device.writes.remove('state', 'next', 'token', 'model', 'manifest');
    } else if (personalise) {
      if (!this.#storageOpened) {
        const errors: NearfieldError[] = [];
        this.#device.writes.storage = await openStorage(this.#options, errors);
        this.#storageOpened = true;
        for (const error of errors) this.#emitter.report(error, 'storage.unavailable');
      }
      this.#device.saveState();
      if (!before.personalise) this.#device.saveModel(true);
    }
    return { ...this.#device.consent };
  }

  /** Forgets the person: history, taste, outbox and token, in memory and in storage. */
  async forget(): Promise<void> {
    this.#mustBeOpen();
    this.#device.forget();
    this.#emitter.emit('recommendations', { reason: 'forget' });
    await this.#device.writes.remove('state', 'next', 'token');
  }

  /** Calls `listener` at every such event, and returns how to stop that. */
  on<Name extends keyof NearfieldEvents>(name: Name, listener: (detail: NearfieldEvents[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Ends the background work, writes what is unwritten, and frees the memory. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch();
    await this.#loop.stop();
    await this.#device.close();
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new NearfieldError('nearfield.closed', 'this Nearfield is closed');
  }
}
