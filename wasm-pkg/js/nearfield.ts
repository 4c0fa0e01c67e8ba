// One person on one site: learns, ranks, keeps, and syncs in the background.

import { BackgroundLoop } from './central/background.js';
import { changed, type Consent, type ConsentInForce } from './person/consent.js';
import type { Device } from './person/device.js';
import { Emitter, type NearfieldEvents } from './emitter.js';
import { NearfieldError } from './error.js';
import { toEvents, type TrackParameters } from './core/events.js';
import type { Model } from './core/model.js';
import { open, type Opened } from './open.js';
import type { OpenOptions } from './options.js';
import { watchPage } from './page.js';
import type { Recommendation, RecommendRequest } from './core/ranking.js';
import type { SentDelta, SyncReport } from './central/reports.js';
import { Sync } from './central/sync.js';
import type { DeltaPreview, HistoryEntry, OutboxEntry, Quality, Tracked } from './core/user.js';

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
  consent: ConsentInForce;
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
  readonly #now: () => number;
  readonly #emitter: Emitter;
  readonly #device: Device;
  readonly #sync: Sync;
  readonly #loop: BackgroundLoop<SyncReport>;
  readonly #hasCentral: boolean;
  readonly #unwatch: () => void;
  #closed = false;

  private constructor(options: OpenOptions, opened: Opened, emitter: Emitter) {
    const { central, device, modelIsNew } = opened;
    this.#now = options.now ?? Date.now;
    this.#emitter = emitter;
    this.#hasCentral = central !== undefined;
    this.#device = device;
    this.#sync = new Sync(options, opened, emitter, (inMs) => this.#loop.wake(inMs));
    const everyMs = central ? (options.syncEveryMs ?? 60_000) : 0;
    this.#loop = new BackgroundLoop(
      everyMs,
      (round) => this.#sync.round(round),
      (thrown) => emitter.report(thrown, 'sync.failed'),
    );
    if (modelIsNew) device.saveModel();
    this.#unwatch = watchPage(
      () => this.#sync.leave(),
      () => this.#loop.wake(0),
    );
    if (everyMs > 0) this.#loop.wake(modelIsNew ? everyMs : 0);
    else if (central && device.user.outbox().length > 0) this.#loop.wake(0);
    this.#askForToken();
  }

  /**
   * Opens: state and last good model from storage, or else the model from central.
   *
   * Rejects with `central.*`, `manifest.*` or `pack.*` if there is no model yet and none can be had.
   */
  static async open(options: OpenOptions): Promise<Nearfield> {
    const emitter = new Emitter();
    return new Nearfield(options, await open(options, emitter), emitter);
  }

  /**
   * Opens with a state that `snapshot` gave. Where `storage` is given and there is consent to keep, it
   * takes the place of the stored one; else it stays in memory. Throws `state.*`.
   */
  static async restore(state: Uint8Array, options: OpenOptions): Promise<Nearfield> {
    const emitter = new Emitter();
    return new Nearfield(options, await open(options, emitter, state), emitter);
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
    const tracked = this.#device.replica.learn(this.#device.model, toEvents(kind, parameters, now), now, this.#device.consent.share);
    this.#device.saveState();
    this.#sync.learned(now);
    if (tracked.applied > 0) this.#emitter.emit('recommendations', { reason: 'event' });
    return tracked;
  }

  /** The person's list, best first, at once. */
  recommend(request: RecommendRequest = {}): Recommendation[] {
    this.#mustBeOpen();
    return this.#device.replica.recommend(this.#device.model, request).items();
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
      consent: this.#device.consent,
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
   * Changes the consent and gives the one in force. Resolves once storage has followed.
   *
   * Without `personalise` all that is stored is deleted, the rest stays in memory and nothing leaves;
   * given later, what is in memory joins what is stored. Without `share` what was not sent yet is
   * dropped, and what is learnt is never sent, not even after `share` is given.
   */
  async consent(changes: Partial<Consent> = {}): Promise<ConsentInForce> {
    this.#mustBeOpen();
    const device = this.#device;
    const [given, before] = [device.given, device.consent];
    device.given = changed(given, changes);
    const after = device.consent;
    if (before.share && !after.share) device.stopSharing();
    if (before.personalise && !after.personalise) await device.stopKeeping();
    if (!before.personalise && after.personalise) {
      await device.keep();
      device.saveModel(true);
      this.#emitter.emit('recommendations', { reason: 'consent' });
    }
    if (after.share && !before.share) this.#askForToken();
    if (given.personalise !== device.given.personalise || given.share !== device.given.share) await device.saveConsent();
    return device.consent;
  }

  /** Resolves once all that was tracked so far is in storage; rejects if it could not be written. */
  async flush(): Promise<void> {
    this.#mustBeOpen();
    await this.#device.saved();
  }

  /** Forgets the person: history, taste, outbox and token, in memory and in storage. */
  async forget(): Promise<void> {
    this.#mustBeOpen();
    const forgotten = this.#device.forget();
    this.#emitter.emit('recommendations', { reason: 'forget' });
    await forgotten;
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

  /** Asks for a device token in the background, so that a page that goes away can send. */
  #askForToken(): void {
    if (!this.#device.sends || this.#device.token) return;
    this.#loop.run({}).catch((thrown: unknown) => {
      if (!this.#closed) this.#emitter.report(thrown, 'sync.failed');
    });
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new NearfieldError('nearfield.closed', 'this Nearfield is closed');
  }
}
