// What this device holds of one person, and the writes that keep it.

import type { Emitter } from '../emitter.js';
import { asNearfieldError } from '../error.js';
import { Model } from '../core/model.js';
import { User, randomId, type SyncAnswer } from '../core/user.js';
import { memoryStorage } from '../storage/adapter.js';
import { asStorageError } from '../storage/error.js';
import { sole, type Fence, type SiteStorage } from '../storage/site-storage.js';
import { WriteQueue } from '../storage/write-queue.js';
import { encodeConsent, inForce, type Consent, type ConsentInForce } from './consent.js';
import { decodeName, encodeName, type DeltaName } from './delta-name.js';
import { decodeHeard, encodeHeard, hear, type Heard } from './heard.js';
import { Replica } from './replica.js';

// A choice: a page that gets a new model every second need not write megabytes every second.
const MODEL_SAVE_MS = 10_000;

/** What a device begins with. */
export interface Beginning {
  /** Names this tab among those of the site. */
  tab: string;
  site: SiteStorage;
  /** Whether what the storage keeps outlives the page. */
  lasting: boolean;
  given: Consent;
  /** Whether there is a central to send to. */
  hasCentral: boolean;
  model: Model;
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
  readonly replica: Replica;
  readonly ownsModel: boolean;
  readonly #tab: string;
  /** The storage that was asked for. */
  readonly #site: SiteStorage;
  readonly #lasting: boolean;
  readonly #hasCentral: boolean;
  readonly #emitter: Emitter;
  /** Where the person is written to: memory, while there is no consent to keep. */
  #storage: SiteStorage = sole(memoryStorage());
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
  #modelSavedAt = -Infinity;
  #modelUnsaved = false;
  #freed = false;

  constructor(beginning: Beginning, emitter: Emitter) {
    this.model = beginning.model;
    this.ownsModel = beginning.ownsModel;
    this.manifest = beginning.manifest;
    this.given = beginning.given;
    this.replica = new Replica(beginning.snapshot ?? new User());
    this.#replaces = beginning.snapshot !== undefined;
    this.#tab = beginning.tab;
    this.#site = beginning.site;
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
    return this.#hasCentral && !this.#freed && this.consent.share;
  }

  /** Whether the memory was given back: what arrives now is about nobody. */
  get freed(): boolean {
    return this.#freed;
  }

  /** Whether the storage that was asked for is written to. */
  get keeps(): boolean {
    return this.#storage === this.#site;
  }

  /** Whether storage has the name that the next delta will get. */
  get nextNameIsDurable(): boolean {
    return this.#isDurable(this.#name());
  }

  /**
   * Takes over what is kept of the person, and keeps it from here on: when opening, and when consent
   * is given later. What was learnt in memory is learnt again on top of what was kept.
   */
  async keep(): Promise<void> {
    const { epoch } = this;
    await this.#people.run(() => this.#keep(epoch));
  }

  async #keep(epoch: number): Promise<void> {
    try {
      if (this.#replaces) await this.#site.forget();
      const claimed = await this.#site.claim({ writer: this.#tab, leaseMs: 0, force: true });
      if (!claimed || epoch !== this.epoch || this.#freed) return;
      this.#adopt(claimed.kept.state, decodeHeard(claimed.kept.heard));
      this.#fence = claimed.fence;
      this.#storage = this.#site;
      this.#replaces = false;
      if (this.consent.share) this.token ??= claimed.kept.token;
      else this.replica.discardDeltas();
      const next = decodeName(claimed.kept.next);
      if (next && this.sends) this.#takeUnder(next);
      this.saveState();
    } catch (thrown) {
      // Private windows may refuse a database, and a newer version's state is left to it: the visit
      // continues in memory, and an event says so.
      this.#emitter.report(thrown, 'storage.unavailable');
    }
  }

  #adopt(state: Uint8Array | undefined, heard: Heard): void {
    this.#heard = heard;
    if (!state) return;
    try {
      this.replica.adopt(this.model, state, heard.get(this.#tab) ?? 0);
    } catch (thrown) {
      const error = asNearfieldError(thrown, 'state.damaged');
      if (error.code === 'state.newer_schema') throw error;
      // A damaged state is worth less than a shop that opens; an event reports it.
      this.#emitter.report(error, error.code);
    }
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
    if (!this.user.takeDelta(this.model, id, base)) return;
    this.#outboxUnsaved = true;
    this.replica.toBytes();
  }

  /** Resolves once every delta of the outbox is durable with its id. */
  async saveOutbox(): Promise<void> {
    if (!this.#outboxUnsaved) return;
    await this.#people.save(true);
    this.#outboxUnsaved = false;
  }

  /** Resolves once what is there now is stored. */
  async saved(): Promise<void> {
    await this.#people.save();
  }

  /** Writes the state in the background. */
  saveState(): void {
    this.#people.save().catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Writes the model in the background, at most every ten seconds unless in a hurry. */
  saveModel(hurry = false): void {
    if (!this.ownsModel || !this.#lasting) return;
    this.#modelUnsaved = true;
    if (!this.keeps) return;
    const now = performance.now();
    if (!hurry && now - this.#modelSavedAt < MODEL_SAVE_MS) return;
    this.#modelSavedAt = now;
    this.#models.save().catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Keeps a manifest that was accepted. */
  keepManifest(accepted: Uint8Array): void {
    this.manifest = accepted;
    if (!this.ownsModel || !this.keeps) return;
    this.#models
      .run(() => this.#storage.put({ manifest: accepted }, { durable: false }))
      .catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Writes the model at once if it was put off. */
  saveModelIfUnsaved(): void {
    if (this.#modelUnsaved) this.saveModel(true);
  }

  /** Replaces the model held by a downloaded one. */
  replaceModel(newer: Model): void {
    const old = this.model;
    this.model = newer;
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
      if (this.keeps) await this.#storage.put({ consent: encodeConsent(this.given) }, { durable: true });
    });
  }

  /** Drops what was to be sent, and what lets it be sent, at once. */
  stopSharing(): void {
    this.epoch += 1;
    this.token = undefined;
    this.#outboxUnsaved = false;
    this.replica.discardDeltas();
    this.saveState();
  }

  /** Deletes all that is stored and continues in memory. */
  async stopKeeping(): Promise<void> {
    this.epoch += 1;
    this.#storage = sole(memoryStorage());
    this.#durableName = undefined;
    await this.#models.idle();
    await this.#people.run(() => this.#site.clear());
  }

  /** Begins anew with a person of whom nothing is known, at once in memory, then in storage. */
  async forget(): Promise<void> {
    this.epoch += 1;
    this.token = undefined;
    this.#nextId = randomId();
    this.#durableName = undefined;
    this.#outboxUnsaved = false;
    this.#replaces = false;
    this.replica.forget();
    await this.#people.run(async () => {
      if (!this.keeps) await this.#storage.forget();
      const generation = await this.#site.forget();
      if (generation !== undefined) this.#fence = { ...this.#fence, generation };
    });
  }

  /** Writes what is unwritten, closes the storage, and frees the memory. */
  async close(): Promise<void> {
    if (this.#modelUnsaved) this.saveModel(true);
    await this.#models.idle();
    await this.#people.idle();
    if (this.keeps) await this.#site.release(this.#tab).catch(() => undefined);
    this.free();
  }

  /** Closes the storage and frees the memory, and writes nothing. */
  free(): void {
    this.#freed = true;
    this.#site.close();
    this.replica.free();
    if (this.ownsModel) this.model.free();
  }

  /** Writes what is known of the person. Where there is no room, the model makes room. */
  async #writePerson(durable: boolean): Promise<void> {
    const { epoch } = this;
    const storage = this.#storage;
    const name = this.#name();
    const { number } = this.replica;
    hear(this.#heard, this.#tab, number);
    const entries = {
      state: this.replica.toBytes(),
      heard: encodeHeard(this.#heard),
      next: name ? encodeName(name) : null,
      token: this.token ?? null,
    };
    // Deltas are named by what must outlive a power cut; an event need only outlive a crash.
    const options = { durable: durable || (name !== undefined && !this.#isDurable(name)) };
    const put = () => storage.putPerson(entries, this.#fence, options);
    try {
      await put().catch(async (thrown: unknown) => {
        if (asStorageError(thrown).code !== 'storage.quota') throw thrown;
        await storage.put({ model: null }, { durable: false });
        await put();
      });
    } catch (thrown) {
      throw asStorageError(thrown);
    }
    if (epoch !== this.epoch || storage !== this.#storage) return;
    this.#durableName = name;
    if (this.keeps) this.replica.kept(number);
  }

  async #writeModel(): Promise<void> {
    if (!this.keeps || this.#freed) return;
    this.#modelUnsaved = false;
    const manifest = this.manifest;
    try {
      await this.#storage.put({ model: this.model.toPack(), ...(manifest && { manifest }) }, { durable: false });
    } catch (thrown) {
      this.#modelUnsaved = true;
      throw asStorageError(thrown);
    }
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
