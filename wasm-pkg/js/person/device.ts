// What this device holds of one person, and the writes that keep it.

import type { Emitter } from '../emitter.js';
import { NearfieldError, asNearfieldError } from '../error.js';
import type { Model } from '../core/model.js';
import type { Event } from '../core/event.js';
import { User, randomId, type Learned, type SyncAnswer } from '../core/user.js';
import type { Entries, PersonKey, PutOptions } from '../storage/adapter.js';
import { asStorageError } from '../storage/error.js';
import type { Fence, SiteStorage } from '../storage/site-storage.js';
import { WriteQueue } from '../storage/write-queue.js';
import { applyRest, decodePatches, encodePatches, loadStored, type Chain, type Sourced, type StoredPatches } from './chain.js';
import { encodeConsent, inForce, type Consent, type ConsentInForce } from './consent.js';
import { decodeName, encodeName, type DeltaName } from './delta-name.js';
import { decodeHeard, encodeHeard, hear, type Heard } from './heard.js';
import { Replica, type Observation } from './replica.js';

// A choice: a page that gets a new model every second need not write megabytes every second.
const MODEL_SAVE_MS = 10_000;

/**
 * How a person is kept: in `memory` alone, by this tab (`writer`), or by another one that this tab
 * follows (`follower`).
 */
export type Role = 'memory' | 'writer' | 'follower';

/** A state as it was stored. */
export interface StoredState {
  generation: number;
  state: Uint8Array;
  /** The events of each tab that it holds. */
  heard: [string, number][];
}

/** What a device begins with. */
export interface Beginning {
  tab: string;
  site: SiteStorage;
  /** Whether what the storage keeps outlives the page. */
  lasting: boolean;
  given: Consent;
  /** Whether there is a central to send to. */
  hasCentral: boolean;
  model: Model;
  chain: Chain | undefined;
  /** Whether the model is this device's own, to update, to keep and to free. */
  ownsModel: boolean;
  /** The manifest that was accepted last. */
  manifest: Uint8Array | undefined;
  /** A state that takes the place of the stored one. */
  snapshot: User | undefined;
}

/** Model, state, token and the id of the next delta, in memory and in storage. */
export class Device {
  model: Model;
  token: Uint8Array | undefined;
  /** The manifest that was accepted last: none that was issued before it is accepted. */
  manifest: Uint8Array | undefined;
  /** The consent that was given. */
  given: Consent;
  /**
   * Counts the times at which the person became another, or took back the consent to share: what was
   * under way before is about nobody, and must not be stored or sent.
   */
  epoch = 0;
  role: Role = 'memory';
  /** The core has lost the state, which is made anew as soon as there is a model. */
  lost = false;
  /** The person is being forgotten: what storage or another tab says of them is old. */
  forgetting = false;
  /** Called when a state, or a model, was stored, and when another tab writes instead of this one. */
  onStored: ((stored: StoredState) => void) | undefined;
  onModelStored: (() => void) | undefined;
  onSuperseded: (() => void) | undefined;
  readonly replica: Replica;
  readonly ownsModel: boolean;
  /** Names this tab among those of the site. */
  readonly tab: string;
  readonly site: SiteStorage;
  readonly #lasting: boolean;
  readonly #hasCentral: boolean;
  readonly #emitter: Emitter;
  #fence: Fence;
  /** The events of each tab that the state holds. */
  #heard: Heard = new Map();
  /** The state takes the place of the stored one. */
  #replaces: boolean;
  readonly #people = new WriteQueue((durable) => this.#writePerson(durable));
  readonly #models = new WriteQueue(() => this.#writeModel());
  /** The id of the next delta, kept beside the state: see `Sync.leave`. */
  #nextId = randomId();
  /** The last name of a delta to come that storage is known to have. */
  #durableName: DeltaName | undefined;
  /** The outbox holds a delta that storage may not have. */
  #outboxUnsaved = false;
  /** How often other tabs' events were learnt, and how often of these storage has. */
  #unstored = 0;
  #stored = 0;
  /** Where the model came from, where that is known: so it is stored. */
  #chain: Chain | undefined;
  #modelSavedAt = -Infinity;
  #modelUnsaved = false;
  #freed = false;
  /** The writer's state was refused, which was reported. */
  #cannotRead = false;
  /**
   * The stored state could be read, but there is no room to write: nothing is sent, since storage could not
   * be told of it. Writing is tried again, with a lease of this many milliseconds.
   */
  #muted: { leaseMs: number } | undefined;

  constructor(beginning: Beginning, emitter: Emitter) {
    this.model = beginning.model;
    this.#chain = beginning.chain;
    this.ownsModel = beginning.ownsModel;
    this.manifest = beginning.manifest;
    this.given = beginning.given;
    this.replica = new Replica(beginning.snapshot ?? new User());
    this.#replaces = beginning.snapshot !== undefined;
    this.tab = beginning.tab;
    this.site = beginning.site;
    this.#lasting = beginning.lasting;
    this.#hasCentral = beginning.hasCentral;
    this.#fence = { writer: beginning.tab, generation: 0 };
    this.#emitter = emitter;
  }

  /** The state; another object after another state was taken over. */
  get user(): User {
    return this.replica.user;
  }

  /** The consent in force. */
  get consent(): ConsentInForce {
    return inForce(this.given);
  }

  /** Whether deltas go out at all. */
  get sends(): boolean {
    return this.#hasCentral && !this.#freed && !this.#muted && this.role !== 'follower' && this.consent.share;
  }

  /** Whether the memory was given back: what arrives now is about nobody. */
  get freed(): boolean {
    return this.#freed;
  }

  /** Which person it is, among those that were forgotten: since when it is this one, in Unix milliseconds. */
  get generation(): number {
    return this.#fence.generation;
  }

  /** Whether the state takes the place of the stored one, which is yet to be done. */
  get replaces(): boolean {
    return this.#replaces;
  }

  /**
   * Takes over what is kept of the person, and keeps it from here on: when opening, when consent is given
   * later, and when this tab becomes the writer. What was learnt here is learnt again on top of it.
   */
  async keep(leaseMs = 0): Promise<void> {
    await this.#people.run(() => this.#keep(leaseMs));
  }

  async #keep(leaseMs: number): Promise<void> {
    const before = this.role;
    try {
      if (!this.#mayKeep) return;
      if (this.#replaces) await this.site.forget();
      const found = await this.#makingRoom(() => this.site.claim({ writer: this.tab, leaseMs, force: true }));
      if (!found || !this.#mayKeep) return;
      const { fence, kept } = found;
      if (fence.generation > this.generation && this.role === 'follower') this.forgotten(fence.generation);
      this.#fence = fence;
      this.role = 'writer';
      this.#muted = undefined;
      this.#replaces = false;
      if (this.consent.share) this.token ??= kept.token;
      const next = decodeName(kept.next);
      // Before what was learnt here joins it: under this name goes what storage knew, and nothing else.
      this.#adopt(kept.state, decodeHeard(kept.heard), () => {
        if (next && this.sends) this.#takeUnder(next);
      });
      if (this.forgetting) return;
      if (!this.consent.share) this.replica.discardDeltas();
      this.saveState();
    } catch (thrown) {
      if (asStorageError(thrown).code === 'storage.quota' && !this.#muted) await this.#readAlone(leaseMs);
      this.#giveUp(before, thrown);
    }
  }

  /** Takes over what is kept of the person, without room to write. */
  async #readAlone(leaseMs: number): Promise<void> {
    const found = await this.site.read().catch(() => undefined);
    if (!found || !this.#mayKeep) return;
    this.#muted = { leaseMs };
    this.#adopt(found.kept.state, decodeHeard(found.kept.heard));
  }

  /** Tries to write again, where there was no room. */
  async keepAgain(): Promise<void> {
    if (this.#muted) await this.keep(this.#muted.leaseMs);
  }

  /** Whether there is no room to write, and all waits for it. */
  get waitsForRoom(): boolean {
    return this.#muted !== undefined;
  }

  /** Takes over what another tab keeps of the person, to follow it. */
  async follow(): Promise<void> {
    await this.#people.run(async () => {
      const before = this.role;
      try {
        const found = await this.site.read();
        if (!this.#mayKeep) return;
        this.role = 'follower';
        // The person may have been forgotten since this was read.
        if (!found || this.forgetting || found.fence.generation < this.generation) return;
        this.#fence = found.fence;
        this.#adopt(found.kept.state, decodeHeard(found.kept.heard));
      } catch (thrown) {
        this.#giveUp(before, thrown);
      }
    });
  }

  get #mayKeep(): boolean {
    return this.given.personalise && !this.#freed;
  }

  /**
   * Continues in memory, and an event says why: private windows may refuse a database, a newer version's
   * state is left to it, and one that makes the core trap to a version that can read it. A tab that had to do
   * with the stored state before sends nothing of it any more: another one does.
   */
  #giveUp(before: Role, thrown: unknown): void {
    this.role = before === 'memory' ? 'memory' : 'follower';
    this.#emitter.report(thrown, 'storage.unavailable');
  }

  #adopt(state: Uint8Array | undefined, heard: Heard, before?: () => void): void {
    if (this.forgetting) return;
    this.#heard = heard;
    if (!state) return;
    try {
      this.replica.adopt(this.model, state, heard.get(this.tab) ?? 0, before);
    } catch (thrown) {
      const error = asNearfieldError(thrown, 'state.damaged');
      if (error.code === 'state.newer_schema' || error.code === 'core.trapped') throw error;
      // A damaged state is worth less than a shop that opens; an event reports it.
      this.#emitter.report(error, error.code);
    }
  }

  /** Takes over the state that the writer stored; whether it is another one than this tab had. */
  takeOver(state: Uint8Array, heard: Heard): boolean {
    const before = this.replica.toBytes();
    try {
      this.#adopt(state, heard);
    } catch (thrown) {
      // A newer version writes: it is told what is learnt here, and its state is not for this one.
      if (!this.#cannotRead) this.#emitter.report(thrown, 'state.damaged');
      this.#cannotRead = true;
      return false;
    }
    return !equal(before, this.user.toBytes());
  }

  /** Learns from an event, or keeps it until the core is back. Throws `event.*` where it is none. */
  learn(event: Event, nowMs: number): Learned {
    const { share } = this.consent;
    if (!this.lost) return this.replica.learn(this.model, event, nowMs, share);
    this.replica.hold(event, nowMs, share);
    return 'applied';
  }

  /** Learns what another tab has learnt and this one has not heard; whether there was anything. */
  repeat(tab: string, observations: readonly Observation[]): boolean {
    const unheard = observations.filter(({ number }) => number > (this.#heard.get(tab) ?? 0));
    const { share } = this.consent;
    for (const observation of unheard) {
      try {
        this.replica.repeat(this.model, { ...observation, shares: observation.shares && share });
      } catch (thrown) {
        this.#emitter.report(thrown, 'tabs.failed');
      }
      hear(this.#heard, tab, observation.number);
    }
    if (unheard.length === 0) return false;
    this.#unstored += 1;
    this.replica.toBytes();
    return true;
  }

  /**
   * Whether what is unsent may go out while the page goes away. Storage must have the name, and what other
   * tabs have told: should this tab not live to write, they tell it again to the next one.
   */
  get mayLeave(): boolean {
    return this.#isDurable(this.#name()) && this.#stored === this.#unstored;
  }

  /** Moves what is unsent into the outbox; false if there is nothing. */
  take(): boolean {
    if (!this.user.takeDelta(this.model, this.#nextId)) return false;
    this.#nextId = randomId();
    this.#outboxUnsaved = true;
    this.replica.toBytes();
    return true;
  }

  /**
   * Moves what the last visit left unsent into the outbox, under the name that it had stored for it. It
   * may have been sent under this name while the page went away: so it goes out before anything new joins
   * it, and central counts it once.
   */
  #takeUnder({ id, lineage, version }: DeltaName): void {
    // What another lineage has learnt is lost with it.
    const base = lineage === this.model.lineage ? version : undefined;
    if (this.user.takeDelta(this.model, id, base)) this.#outboxUnsaved = true;
  }

  /** Resolves once every delta of the outbox is durable with its id. */
  async saveOutbox(): Promise<void> {
    if (!this.#outboxUnsaved) return;
    await this.#people.save(true);
    this.#outboxUnsaved = false;
  }

  /** Resolves once what is there now is stored. */
  async saved(): Promise<void> {
    await this.keepAgain();
    if (this.#muted) throw new NearfieldError('storage.quota', 'there is no room to write');
    await this.#people.save();
  }

  /** Writes the state in the background. */
  saveState(): void {
    this.#people.save().catch((thrown: unknown) => {
      // Whoever writes instead has it or is told, and what the core has lost is written when it is back.
      if (!['storage.superseded', 'core.lost'].includes(asStorageError(thrown).code)) this.#emitter.report(thrown, 'storage.failed');
    });
  }

  /** Writes the model in the background, at most every ten seconds unless in a hurry. */
  saveModel(hurry = false): void {
    if (!this.ownsModel || !this.#lasting) return;
    this.#modelUnsaved = true;
    if (this.role !== 'writer') return;
    const now = performance.now();
    if (!hurry && now - this.#modelSavedAt < MODEL_SAVE_MS) return;
    this.#modelSavedAt = now;
    this.#models.save().catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Keeps a manifest that was accepted. */
  keepManifest(accepted: Uint8Array): void {
    this.manifest = accepted;
    if (!this.ownsModel || this.role !== 'writer') return;
    this.#models
      .run(() => this.site.put({ manifest: accepted }, { durable: false }))
      .catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Writes the model at once if it was put off. */
  saveModelIfUnsaved(): void {
    if (this.#modelUnsaved) this.saveModel(true);
  }

  /** Whether a downloaded model is to be stored. */
  get keepsModel(): boolean {
    return this.ownsModel && this.#lasting && this.given.personalise;
  }

  /** Notes a patch that was applied to the model. */
  patched(patch: Uint8Array): void {
    this.#chain?.patches.push(patch);
  }

  /** Replaces the model held by another one. */
  replaceModel({ model, chain }: Sourced): void {
    const old = this.model;
    this.model = model;
    this.#chain = chain;
    old.free();
  }

  /** Takes central's answer to a sync. Throws `reply.*` and changes nothing if it is none. */
  settle(answer: Uint8Array): SyncAnswer {
    const settled = this.user.settle(answer);
    this.replica.toBytes();
    this.saveState();
    return settled;
  }

  /** Keeps a token that central issued. */
  keepToken(token: Uint8Array | undefined): void {
    this.token = token;
    this.saveState();
  }

  /** Resolves once the consent that was given is remembered. */
  async saveConsent(): Promise<void> {
    await this.#people.run(async () => {
      if (this.role !== 'memory') await this.site.put({ consent: encodeConsent(this.given) }, { durable: true });
    });
  }

  /** Drops what was to be sent, and what lets it be sent, at once. */
  stopSharing(): void {
    this.epoch += 1;
    this.token = undefined;
    this.#outboxUnsaved = false;
    // What the core has lost is discarded when it is back.
    if (!this.lost) this.replica.discardDeltas();
    this.saveState();
  }

  /** Continues in memory. */
  stopKeeping(): void {
    this.epoch += 1;
    this.role = 'memory';
    this.#durableName = undefined;
    this.#packIsGone();
  }

  /** Deletes all that is stored, after whatever is being written. */
  async clear(): Promise<void> {
    await this.#models.idle();
    await this.#people.run(() => this.site.clear());
    this.#packIsGone();
  }

  /** Makes the state anew after the core lost it. Throws `core.trapped` where it is lost again. */
  recover({ model, chain }: Sourced, attempt: number): void {
    this.model = model;
    this.#chain = chain;
    this.replica.rebuild(model, attempt);
    if (attempt > 1) this.role = 'memory';
    if (!this.consent.share) this.replica.discardDeltas();
    this.lost = false;
    this.saveState();
  }

  /** Begins anew with a person of whom nothing is known, at once in memory, then in storage. */
  async forget(): Promise<void> {
    this.forgetting = true;
    this.#beginAnew();
    await this.#people.run(async () => {
      try {
        const generation = await this.site.forget();
        if (generation !== undefined) this.#fence = { ...this.#fence, generation };
      } finally {
        this.forgetting = false;
      }
    });
  }

  /** Begins anew, after the person was forgotten in another tab. */
  forgotten(generation: number): void {
    this.#fence = { ...this.#fence, generation };
    this.#beginAnew();
  }

  #beginAnew(): void {
    this.epoch += 1;
    this.token = undefined;
    this.#nextId = randomId();
    this.#durableName = undefined;
    this.#outboxUnsaved = false;
    this.#replaces = false;
    this.#muted = undefined;
    this.#heard = new Map();
    this.replica.forget();
  }

  /** Takes the model that the writer has stored, if it is newer; what the next list is made of. */
  async takeStoredModel(): Promise<void> {
    if (!this.ownsModel) return;
    const manifest = await this.site.get('manifest');
    const patches = decodePatches(await this.site.get('patches'));
    if (!this.#follows) return;
    const { lineage, version: from } = this.model;
    let bytes: number | undefined;
    // Only what is new of it, where this tab has the same pack.
    if (patches && this.#chain) bytes = this.#applyRest(patches, this.#chain);
    if (bytes === undefined) {
      const stored = await loadStored(this.site, this.#emitter);
      if (!stored) return;
      const isOld = stored.model.lineage === lineage && stored.model.version <= this.model.version;
      if (!this.#follows || isOld) return stored.model.free();
      bytes = stored.chain.bytes;
      this.replaceModel(stored);
    }
    const { model } = this;
    if (model.lineage === lineage && model.version === from) return;
    this.manifest = manifest;
    this.#emitter.emit('model', { lineage: model.lineage, version: model.version, from, via: 'tab', bytes });
    this.#emitter.emit('recommendations', { reason: 'model' });
  }

  /** Whether what another tab stores is for this one. */
  get #follows(): boolean {
    return !this.#freed && !this.lost && this.role !== 'memory';
  }

  /** Applies the stored patches that are new; undefined where they do not fit. */
  #applyRest(patches: StoredPatches, chain: Chain): number | undefined {
    try {
      return applyRest(this.model, chain, patches);
    } catch {
      return undefined;
    }
  }

  /** Writes what is unwritten. */
  async finish(): Promise<void> {
    if (this.#modelUnsaved) this.saveModel(true);
    await this.#models.idle();
    await this.#people.idle();
  }

  /** Closes the storage and frees the memory, and writes nothing. */
  free(): void {
    this.#freed = true;
    this.site.close();
    this.replica.free();
    if (this.ownsModel) this.model.free();
  }

  /** Writes what is known of the person. */
  async #writePerson(durable: boolean): Promise<void> {
    const { epoch } = this;
    const name = this.#name();
    if (this.role === 'follower' && !this.onSuperseded) {
      throw new NearfieldError('storage.superseded', 'another tab writes this site now');
    }
    if (this.role !== 'writer') {
      // Memory ends with the page, and so does what could be sent twice.
      this.#durableName = name;
      return;
    }
    const { number } = this.replica;
    const fence = this.#fence;
    hear(this.#heard, this.tab, number);
    const heard = [...this.#heard];
    const unstored = this.#unstored;
    const state = this.replica.toBytes();
    const entries = { state, heard: encodeHeard(this.#heard), next: name ? encodeName(name) : null, token: this.token ?? null };
    // Deltas are named by what must outlive a power cut; an event need only outlive a crash.
    await this.#put(entries, fence, { durable: durable || (name !== undefined && !this.#isDurable(name)) });
    if (epoch !== this.epoch || this.role !== 'writer') return;
    this.#durableName = name;
    this.#stored = unstored;
    this.replica.kept(number);
    this.onStored?.({ generation: fence.generation, state, heard });
  }

  async #put(entries: Entries<PersonKey>, fence: Fence, options: PutOptions): Promise<void> {
    try {
      await this.#makingRoom(() => this.site.putPerson(entries, fence, options));
    } catch (thrown) {
      const error = asStorageError(thrown);
      if (error.code === 'storage.superseded' && this.role === 'writer') {
        // What is stored is another tab's to send.
        this.role = 'follower';
        this.onSuperseded?.();
      }
      throw error;
    }
  }

  /** Writes; where there is no room, the model makes it. */
  async #makingRoom<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write();
    } catch (thrown) {
      if (asStorageError(thrown).code !== 'storage.quota') throw thrown;
      await this.site.put({ model: null, patches: null }, { durable: false });
      this.#packIsGone();
      return write();
    }
  }

  async #writeModel(): Promise<void> {
    if (this.role !== 'writer' || this.#freed || this.lost) return;
    this.#modelUnsaved = false;
    const manifest = this.manifest;
    const { chain, pack } = this.#toWrite();
    try {
      await this.site.put({ ...(pack && { model: pack }), patches: encodePatches(chain), ...(manifest && { manifest }) }, { durable: false });
    } catch (thrown) {
      this.#modelUnsaved = true;
      throw asStorageError(thrown);
    }
    chain.pack = undefined;
    chain.stored = true;
    this.onModelStored?.();
  }

  /** How the model is written: its patches alone, or with its pack; as a pack of its own where its patches are longer than that. */
  #toWrite(): { chain: Chain; pack: Uint8Array | Blob | undefined } {
    const chain = this.#chain;
    const patchBytes = chain?.patches.reduce((sum, patch) => sum + patch.length, 0) ?? 0;
    if (chain && (chain.stored || chain.pack) && patchBytes <= chain.bytes) return { chain, pack: chain.pack };
    const { lineage, version: base } = this.model;
    const pack = this.model.toPack();
    this.#chain = { lineage, base, bytes: pack.length, pack: undefined, stored: false, patches: [] };
    return { chain: this.#chain, pack };
  }

  /** Storage does not have the pack any more. */
  #packIsGone(): void {
    if (this.#chain) this.#chain.stored = false;
  }

  #isDurable(name: DeltaName | undefined): boolean {
    const stored = this.#durableName;
    return name !== undefined && stored?.id === name.id && stored.lineage === name.lineage && stored.version === name.version;
  }

  /** The next delta's name, once there is a token: without one a page that goes away sends nothing. */
  #name(): DeltaName | undefined {
    const { lineage, version } = this.model;
    return this.token && { id: this.#nextId, lineage, version };
  }
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}
