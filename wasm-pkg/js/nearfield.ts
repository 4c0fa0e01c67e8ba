// One person on one site: learns, ranks, keeps, and syncs in the background.

import { BackgroundLoop } from './central/background.js';
import { backoffMs, type Central } from './central/central.js';
import type { SentDelta, SyncReport } from './central/reports.js';
import { Sync } from './central/sync.js';
import { afterReset, init } from './core/binding.js';
import type { Model } from './core/model.js';
import { type Ranked, type RecommendRequest } from './core/ranking.js';
import type { Reason } from './core/reasons.js';
import { hex } from './core/packed.js';
import { type DeltaPreview, type HistoryEntry, type OutboxEntry, type Quality } from './core/user.js';
import { Emitter, type NearfieldEvents } from './emitter.js';
import { NearfieldError, asNearfieldError } from './error.js';
import { Instances, type EndUse } from './instances.js';
import { beginModel, open, usesIndexedDb, type Opened } from './open.js';
import { checkOptions, type OpenOptions } from './options.js';
import { watchPage } from './page.js';
import { NO_CONSENT, changed, same, type Consent, type ConsentInForce } from './person/consent.js';
import type { Device, Role } from './person/device.js';
import { headOf } from './person/replica.js';
import { ShownLists } from './person/shown-lists.js';
import { Tabs } from './tabs/tabs.js';
import { follow } from './track/data-layer.js';
import { read, type Ignored, type TrackPayload } from './track/read.js';

// A choice: a core that cannot even begin is not tried for ever.
const TRAPS_MAX = 4;

/** What `track` did, in events. */
export interface Tracked {
  /** Learnt. */
  applied: number;
  /** Not learnt again, since the id had been counted before. */
  duplicate: number;
  /** Context only: impressions and searches. */
  context: number;
  /** Left out; `inspect().ignored` says why. */
  ignored: number;
}

/** @internal What a call of `track` or `clicked` says beside the payload. */
export interface Told {
  /** When it happened, in Unix milliseconds, where the payload does not say. */
  at?: number;
  /** Names what happened where the payload does not: it counts once. */
  id?: string;
  /** The list that the item was chosen from. */
  recommendationId?: string;
}

/** One item of a list that `recommend` gave. */
export interface Recommendation extends Ranked {
  /** Why it is there: the two parts of the score that weigh most, the heavier one first. */
  reasons: Reason[];
  /** Names the list, for `clicked`. */
  recommendationId: string;
}

/** All that is known about the person, to hand over to them. */
export interface Export {
  site: string;
  /** When it was made, in ISO 8601. */
  madeAt: string;
  consent: ConsentInForce;
  history: HistoryEntry[];
  quality: Quality;
  /** What waits to be sent, and what was sent in this page. */
  outbox: OutboxEntry[];
  sent: readonly SentDelta[];
  /** The device token, in hexadecimal, where there is one. */
  token?: string;
  /** The state as bytes, in hexadecimal; `restore` takes it as bytes. */
  state: string;
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
  /** What `track` left out in this page, by reason. */
  ignored: Partial<Record<Ignored, number>>;
  /** Bytes of the state, all of the above included. */
  stateBytes: number;
  consent: ConsentInForce;
  /** How the person is kept: in memory alone, by this tab, or by another one that this tab follows. */
  role: Role;
}

// A page that opens a site twice, as development builds of some frameworks do, gets the same instance.
const instances = new Instances<Nearfield>();

/**
 * One person's recommender in this page.
 *
 * ```js
 * const nf = await Nearfield.open({ endpoint: 'https://central.example', publicKey, site: 'shop' });
 * nf.track('view_item', { items: [{ item_id: 'tent-2' }] });
 * for (const { itemId } of nf.recommend({ count: 12 })) show(itemId);
 * ```
 */
export class Nearfield {
  readonly #options: OpenOptions;
  readonly #now: () => number;
  readonly #emitter: Emitter;
  readonly #device: Device;
  readonly #sync: Sync;
  readonly #loop: BackgroundLoop<SyncReport>;
  readonly #hasCentral: boolean;
  readonly #everyMs: number;
  readonly #unwatch: () => void;
  /** Whether other tabs may have the same site open. */
  readonly #shared: boolean;
  readonly #endUse: EndUse;
  readonly #stopRecovering: () => void;
  readonly #seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;
  readonly #lists = new ShownLists();
  readonly #ignored = new Map<Ignored, number>();
  #recovering: Promise<void> | undefined;
  #tabs: Tabs | undefined;
  #suspended: Promise<void> | undefined;
  #closed = false;

  private constructor(options: OpenOptions, opened: Opened, emitter: Emitter, shared: boolean, endUse: EndUse) {
    const { central, device } = opened;
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#emitter = emitter;
    this.#hasCentral = central !== undefined;
    this.#device = device;
    this.#shared = shared;
    this.#endUse = endUse;
    this.#sync = new Sync(options, opened, emitter, (inMs) => this.#loop.wake(inMs));
    this.#everyMs = central ? (options.syncEveryMs ?? 60_000) : 0;
    this.#loop = new BackgroundLoop(
      this.#everyMs,
      (round) => this.#sync.round(round),
      (thrown) => emitter.report(thrown, 'sync.failed'),
    );
    this.#stopRecovering = afterReset(() => {
      device.lost = true;
      this.#recovering ??= this.#recover(central);
    });
    this.#unwatch = watchPage({
      leave: () => this.#sync.leave(),
      wake: () => this.#loop.wake(0),
      suspend: () => void (this.#suspended = this.#suspend()),
      resume: () => void this.#resume(),
    });
  }

  /**
   * Opens: state and last good model from storage, or else the model from central.
   *
   * A page that opens a site again gets the same instance, which is closed when it was closed as often.
   * Rejects with `central.*`, `manifest.*` or `pack.*` if there is no model yet and none can be had.
   */
  static async open(options: OpenOptions): Promise<Nearfield> {
    checkOptions(options);
    if (!usesIndexedDb(options)) return Nearfield.#begin(options, false);
    return instances.use(options, (end) => Nearfield.#begin(options, true, undefined, end));
  }

  /**
   * Opens with a state that `snapshot` gave. Where `storage` is given and there is consent to keep, it
   * takes the place of the stored one, and `storage.in_use` says that another tab has that open; else it
   * stays in memory. Throws `state.*`.
   */
  static async restore(state: Uint8Array, options: OpenOptions): Promise<Nearfield> {
    checkOptions(options);
    return Nearfield.#begin(options, usesIndexedDb(options, true), state);
  }

  static async #begin(options: OpenOptions, shared: boolean, state?: Uint8Array, end: EndUse = (close) => close()): Promise<Nearfield> {
    const emitter = new Emitter();
    const opened = await open(options, emitter, state);
    const nf = new Nearfield(options, opened, emitter, shared && 'BroadcastChannel' in globalThis, end);
    try {
      await nf.#start(opened);
    } catch (thrown) {
      await nf.#end();
      throw thrown;
    }
    return nf;
  }

  async #start({ device, modelIsNew, remembered }: Opened): Promise<void> {
    if (device.given.personalise) {
      await this.#keep();
      if (modelIsNew) device.saveModel();
      if (!remembered) device.saveConsent().catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
    }
    if (this.#everyMs > 0) this.#loop.wake(modelIsNew ? this.#everyMs : 0);
    this.#sendWhatWaits();
  }

  /** Keeps the person, here or in the tab that writes. */
  async #keep(): Promise<void> {
    if (!this.#shared) return this.#device.keep();
    this.#tabs = new Tabs(this.#options.site, this.#device, this.#emitter, {
      becameWriter: () => {
        this.#loop.wake(this.#everyMs);
        this.#sendWhatWaits();
        this.#emitter.emit('recommendations', { reason: 'tab' });
      },
      learned: () => this.#sync.learned(this.#now()),
      consented: (given) => this.#follow(given),
      withdrawn: () => this.#follow(NO_CONSENT),
      sync: () => this.#loop.run({ flush: true, poll: true }),
      settled: (report) => this.#sync.settledElsewhere(report),
    });
    await this.#tabs.join();
  }

  /** Takes over what was agreed to in another tab. */
  #follow(given: Consent): void {
    const device = this.#device;
    const before = device.consent;
    device.given = given;
    if (before.share && !device.consent.share) device.stopSharing();
    if (before.personalise && !given.personalise) void this.#leaveTabs();
    if (!before.share) this.#sendWhatWaits();
  }

  async #leaveTabs(): Promise<void> {
    this.#device.stopKeeping();
    const tabs = this.#tabs;
    this.#tabs = undefined;
    await tabs?.leave();
  }

  /** Lets another tab write while this page is stopped; a page that holds a lock would not be kept. */
  async #suspend(): Promise<void> {
    if (!this.#tabs) return;
    await this.#device.finish();
    await this.#leaveTabs();
    // Whoever writes now also sends.
    this.#device.role = 'follower';
  }

  /** Joins the other tabs again. What was learnt meanwhile is learnt again on top of what they know. */
  async #resume(): Promise<void> {
    await this.#suspended;
    if (this.#closed || this.#tabs || !this.#device.given.personalise) return;
    await this.#keep();
    this.#loop.wake(0);
    this.#emitter.emit('recommendations', { reason: 'tab' });
  }

  /** What was sent in this page, oldest first. */
  get sent(): readonly SentDelta[] {
    return this.#sync.sent;
  }

  /** Rises whenever the list may have changed: as long as it is the same, `recommend` need not be asked again. */
  get revision(): number {
    return this.#emitter.revision;
  }

  /** @internal Whether the person is kept, here or in another tab. */
  get keeps(): boolean {
    return this.#device.role !== 'memory';
  }

  /** The model in use; its version changes as newer ones arrive. */
  get model(): Model {
    return this.#device.model;
  }

  /** Resolves when lists can be had: at once, or when the core is back after a trap. */
  get ready(): Promise<this> {
    return (this.#recovering ?? Promise.resolve()).then(() => this);
  }

  /**
   * Learns from what a page tracks, as GA4 and Segment have it: `view_item`, `Product Viewed`, `add_to_cart`,
   * `Order Completed`, …, with their payloads, or plain kinds with an item's id. Each item is one event.
   *
   * It never throws: what cannot be used is left out and counted in `inspect().ignored`. While the core begins
   * again after a trap, events wait until it is back.
   */
  track(name: string, payload?: TrackPayload): Tracked {
    return this.observe(name, payload);
  }

  /** @internal What `track` and `clicked` do, told by a page whose core is in this worker. */
  observe(name: string, payload?: TrackPayload, { at, id, recommendationId }: Told = {}): Tracked {
    const tracked = { applied: 0, duplicate: 0, context: 0, ignored: 0 };
    const device = this.#device;
    const now = this.#now();
    // A page told it before the person was forgotten in another tab; a clock that was set back says nothing.
    const isForgotten = (at as number) < device.generation && device.generation <= now;
    if (this.#closed || isForgotten) return tracked;
    const list = recommendationId !== undefined && this.#lists.take(recommendationId);
    if (list && !device.lost) device.replica.shownAgain(device.model, list);
    const { events, ignored } = read(name, payload, at ?? now, id);
    for (const event of events) {
      try {
        tracked[device.learn(event, now)] += 1;
      } catch (thrown) {
        // After a trap it is lost; all else is no event.
        if (asNearfieldError(thrown, '').code !== 'core.trapped') this.#debug('refused', name, thrown);
        ignored.push('refused');
      }
    }
    tracked.ignored = ignored.length;
    for (const reason of ignored) this.#ignored.set(reason, (this.#ignored.get(reason) ?? 0) + 1);
    this.#debug('track', name, payload, tracked, ...ignored);
    if (tracked.applied > 0) this.#learned(now);
    return tracked;
  }

  /**
   * Learns that the person chose an item of a list: a click, counted by its rank in that very list, though
   * others were shown since. It never throws.
   */
  clicked(recommendationId: string, itemId: string | number): Tracked {
    return this.observe('click', itemId, { recommendationId });
  }

  /** Tracks what is in the page's `dataLayer`, and what is pushed to it; returns how to stop that. */
  dataLayer(layer: unknown[]): () => void {
    return follow(layer, (name, payload) => void this.track(name as string, payload as TrackPayload));
  }

  /**
   * The person's list, best first, at once. It counts as shown, so that the next choice tells how good it was;
   * `peek` gives one that does not. Throws `recommend.*` where the request is none.
   */
  recommend(request: RecommendRequest = {}): Recommendation[] {
    this.#mustWork();
    const { model, replica } = this.#device;
    // The same through the visit: a list that explores changes when something was learnt, not when it is drawn.
    const list = replica.recommend(model, { seed: this.#seed, ...request });
    const reasons = replica.user.explain(model, list.rows, request.scenario);
    const recommendationId = this.#lists.add(headOf(model, list));
    return list.items().map((item, place) => ({ ...item, reasons: reasons[place] ?? [], recommendationId }));
  }

  /** A list that is not shown, or not yet: `clicked` makes it count. */
  peek(request: RecommendRequest = {}): Recommendation[] {
    return this.recommend({ ...request, shown: false });
  }

  /** The most popular items: the same for everyone. */
  popular({ count }: { count?: number } = {}): Ranked[] {
    this.#mustWork();
    return this.#device.model.popular(count).items();
  }

  /** The items most like this one. */
  similar(itemId: string | number, { count }: { count?: number } = {}): Ranked[] {
    this.#mustWork();
    return this.#device.model.similar(String(itemId), count).items();
  }

  /** Sends what was learnt and looks for a newer model, now. It also happens by itself. */
  async sync(): Promise<SyncReport> {
    this.#mustBeOpen();
    if (!this.#hasCentral) throw new NearfieldError('sync.no_endpoint', 'no endpoint was given to sync with', { field: 'endpoint' });
    if (this.#device.role === 'follower' && this.#tabs) return this.#tabs.sync();
    return this.#loop.run({ flush: true, poll: true });
  }

  /** All that is kept about the person on this device. */
  inspect(): Inspection {
    this.#mustWork();
    return {
      version: this.#device.model.version,
      lineage: this.#device.model.lineage,
      items: this.#device.model.length,
      history: this.#device.user.history(this.#device.model),
      outbox: this.#device.user.outbox(),
      quality: this.#device.user.quality(),
      ignored: Object.fromEntries(this.#ignored),
      stateBytes: this.#device.user.toBytes().length,
      consent: this.#device.consent,
      role: this.#device.role,
    };
  }

  /** All that is known about the person, as plain values: to show, to keep, or to hand over. */
  export(): Export {
    const { history, quality, outbox, consent } = this.inspect();
    const { token } = this.#device;
    return {
      site: this.#options.site,
      madeAt: new Date(this.#now()).toISOString(),
      consent,
      history,
      quality,
      outbox,
      sent: [...this.sent],
      ...(token && { token: hex(token) }),
      state: hex(this.snapshot()),
    };
  }

  /** What would be sent now, to the byte; null if there is nothing new or no consent to share it. */
  inspectDelta(): DeltaPreview | null {
    this.#mustWork();
    return this.#device.consent.share ? this.#device.user.previewDelta(this.#device.model) : null;
  }

  /** The person's state as bytes, for `restore`. */
  snapshot(): Uint8Array {
    this.#mustWork();
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
    const isNew = !same(given, device.given);
    if (before.share && !after.share) device.stopSharing();
    if (isNew) this.#tabs?.consented(device.given);
    if (before.personalise && !after.personalise) {
      await this.#leaveTabs();
      await device.clear();
    }
    if (!before.personalise && after.personalise) {
      await this.#keep();
      device.saveModel(true);
      this.#emitter.emit('recommendations', { reason: 'consent' });
    }
    if (after.share && !before.share) this.#sendWhatWaits();
    if (isNew) await device.saveConsent();
    return device.consent;
  }

  /** Resolves once all that was tracked so far is in storage; rejects if it could not be written. */
  async flush(): Promise<void> {
    this.#mustBeOpen();
    const { replica } = this.#device;
    const { number } = replica;
    for (;;) {
      await this.#tabs?.stored();
      try {
        await this.#device.saved();
        // Who had to write may have changed meanwhile.
        if (this.#device.role === 'memory' || replica.keptUpTo >= number) return;
      } catch (thrown) {
        if (!this.#tabs || asNearfieldError(thrown, '').code !== 'storage.superseded') throw thrown;
      }
      await this.#tabs?.settled();
      this.#mustBeOpen();
    }
  }

  /** Forgets the person: history, taste, outbox and token, in memory and in storage. */
  async forget(): Promise<void> {
    this.#mustBeOpen();
    const forgotten = this.#device.forget();
    this.#emitter.emit('recommendations', { reason: 'forget' });
    await forgotten;
    this.#tabs?.forgot();
  }

  /** Calls `listener` at every such event, and returns how to stop that. */
  on<Name extends keyof NearfieldEvents>(name: Name, listener: (detail: NearfieldEvents[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /**
   * Ends the background work, writes what is unwritten, and frees the memory. An instance that the page
   * opened more than once ends when it was closed as often.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#endUse(() => this.#end());
  }

  async #end(): Promise<void> {
    this.#closed = true;
    this.#stopRecovering();
    this.#unwatch();
    await this.#loop.stop();
    await this.#device.finish();
    await this.#tabs?.leave();
    this.#device.free();
  }

  /** Sends in the background what the last visit left, and asks for a token before there is anything. */
  #sendWhatWaits(): void {
    const device = this.#device;
    if (this.#closed || device.lost || !device.sends || (device.token && device.user.outbox().length === 0)) return;
    this.#loop.run({}).catch((thrown: unknown) => {
      if (!this.#closed) this.#emitter.report(thrown, 'sync.failed');
    });
  }

  /** Makes model and state anew after a trap of the core. */
  async #recover(central: Central | undefined): Promise<void> {
    const device = this.#device;
    let [traps, failures] = [0, 0];
    while (device.lost && !this.#closed) {
      try {
        const site = device.role === 'memory' ? undefined : device.site;
        const begun = await beginModel(this.#options, central, site, device.keepsModel, init(), this.#emitter);
        if (this.#closed) break;
        device.recover(begun, traps);
      } catch (thrown) {
        this.#emitter.report(thrown, 'core.failed');
        // The state itself may be what the core traps at; a model that cannot be had is asked for again.
        if (asNearfieldError(thrown, '').code === 'core.trapped') traps += 1;
        else await new Promise((later) => setTimeout(later, backoffMs((failures += 1))));
        if (traps === TRAPS_MAX || !device.ownsModel) break;
      }
    }
    this.#recovering = undefined;
    if (!device.lost) this.#emitter.emit('recommendations', { reason: 'core' });
  }

  /** Tells storage, the other tabs, central and the page that something was learnt. */
  #learned(now: number): void {
    if (this.#device.lost) return;
    this.#device.saveState();
    this.#tabs?.learned();
    this.#sync.learned(now);
    this.#emitter.emit('recommendations', { reason: 'event' });
  }

  #debug(...what: unknown[]): void {
    if (this.#options.debug) console.debug('nearfield:', ...what);
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new NearfieldError('nearfield.closed', 'this Nearfield is closed');
  }

  #mustWork(): void {
    this.#mustBeOpen();
    if (this.#device.lost) throw new NearfieldError('core.lost', 'the core trapped and begins again: `recommendations` tells when it is back');
  }
}
