// What this device holds of one person, and the writes that keep it.

import type { Consent } from './consent.js';
import { encodeName, type DeltaName } from './delta-name.js';
import type { Emitter } from './emitter.js';
import { Model } from './model.js';
import type { Opened } from './open.js';
import type { OpenOptions } from './options.js';
import { User, randomId } from './user.js';
import { WriteQueue } from './write-queue.js';

// A choice: a page that gets a new model every second need not write megabytes every second.
const MODEL_SAVE_MS = 10_000;

/** Model, state, token and the id of the next delta, in memory and in storage. */
export class Device {
  model: Model;
  user: User;
  token: Uint8Array | undefined;
  /** The manifest that was accepted last: none that was issued before it is accepted. */
  manifest: Uint8Array | undefined;
  consent: Consent;
  /** Whether the model is this device's own, to update, to keep and to free. */
  readonly ownsModel: boolean;
  readonly writes: WriteQueue;
  readonly #emitter: Emitter;
  /** The id of the next delta, kept beside the state: see `Sync.leave`. */
  #nextId = randomId();
  /** The last name of a delta to come that storage is known to have. */
  #durableName: DeltaName | undefined;
  /** The outbox holds a delta that storage may not have. */
  #outboxUnsaved = false;
  #modelSavedAt = -Infinity;
  #modelUnsaved = false;
  #freed = false;

  constructor(options: OpenOptions, opened: Opened, emitter: Emitter) {
    this.model = opened.model;
    this.user = opened.user;
    this.token = opened.token;
    this.manifest = opened.manifest;
    this.consent = opened.consent;
    this.ownsModel = !(options.model instanceof Model);
    this.#emitter = emitter;
    this.writes = new WriteQueue(opened.storage, {
      state: () => this.user.toBytes(),
      next: () => {
        const name = this.#name();
        return name && encodeName(name);
      },
      token: () => this.token,
      model: () => this.model.toPack(),
      manifest: () => this.manifest,
    });
  }

  /** Whether the memory was given back: what arrives now is about nobody. */
  get freed(): boolean {
    return this.#freed;
  }

  /** Whether storage has the name that the next delta will get. */
  get nextNameIsDurable(): boolean {
    const stored = this.#durableName;
    const { lineage, version } = this.model;
    return stored?.id === this.#nextId && stored.lineage === lineage && stored.version === version;
  }

  /** Moves what is unsent into the outbox; false if there is nothing. */
  take(): boolean {
    if (!this.user.takeDelta(this.model, this.#nextId)) return false;
    this.#nextId = randomId();
    this.#outboxUnsaved = true;
    return true;
  }

  /**
   * Moves what the last visit left unsent into the outbox, under the name that it had stored for it. It
   * may have been sent under this name while the page went away: so it goes out before anything new joins
   * it, and central counts it once.
   */
  takeUnder({ id, lineage, version }: DeltaName): void {
    // What another lineage has learnt is lost with it.
    const base = lineage === this.model.lineage ? version : undefined;
    if (this.user.takeDelta(this.model, id, base)) this.#outboxUnsaved = true;
  }

  /** Resolves once every delta of the outbox is durable with its id. */
  async saveOutbox(): Promise<void> {
    if (!this.#outboxUnsaved) return;
    await this.#save();
    this.#outboxUnsaved = false;
  }

  /** Writes the state in the background. */
  saveState(): void {
    if (!this.consent.personalise) return;
    this.#save().catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Writes the model in the background, at most every ten seconds unless in a hurry. */
  saveModel(hurry = false): void {
    if (!this.consent.personalise || !this.ownsModel) return;
    this.#modelUnsaved = true;
    const now = performance.now();
    if (!hurry && now - this.#modelSavedAt < MODEL_SAVE_MS) return;
    this.#modelSavedAt = now;
    this.#modelUnsaved = false;
    this.writes.save('model', 'manifest').catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  /** Keeps a manifest that was accepted. */
  keepManifest(accepted: Uint8Array): void {
    this.manifest = accepted;
    if (!this.consent.personalise || !this.ownsModel) return;
    this.writes.save('manifest').catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
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

  /** Begins anew with a person of whom nothing is known, in memory. */
  forget(): void {
    const old = this.user;
    this.user = new User();
    this.token = undefined;
    this.#nextId = randomId();
    old.free();
  }

  /** Writes what is unwritten, closes the storage, and frees the memory. */
  async close(): Promise<void> {
    if (this.consent.personalise && this.ownsModel && this.#modelUnsaved) {
      await this.writes.save('model', 'manifest').catch(() => undefined);
    }
    await this.writes.idle();
    this.writes.storage.close?.();
    this.#freed = true;
    this.user.free();
    if (this.ownsModel) this.model.free();
  }

  /** Resolves once the state, and the name of the delta to come, are durable. */
  async #save(): Promise<void> {
    const name = this.#name();
    await this.writes.save('state', 'next');
    this.#durableName = name;
  }

  /** The next delta's name, once there is a token: without one a page that goes away sends nothing. */
  #name(): DeltaName | undefined {
    const { lineage, version } = this.model;
    return this.token && { id: this.#nextId, lineage, version };
  }
}
