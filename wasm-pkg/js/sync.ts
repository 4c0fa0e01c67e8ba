// The exchange with central: deltas out, models in.

import type { Round } from './background.js';
import type { Central } from './central.js';
import type { Device } from './device.js';
import type { Emitter } from './emitter.js';
import { NearfieldError } from './error.js';
import { verifyManifest } from './manifest.js';
import { Model } from './model.js';
import type { OpenOptions } from './options.js';
import type { SentDelta, SyncReport } from './reports.js';
import type { User } from './user.js';

const SENT_MAX = 500;

/** One device's exchange with central. `wake` asks for a round in the background. */
export class Sync {
  /** What was sent in this page, oldest first. */
  readonly sent: SentDelta[] = [];
  /** Milliseconds without an event after which what was learnt goes out. */
  readonly idleMs: number;
  readonly #device: Device;
  readonly #central: Central | undefined;
  readonly #site: string;
  readonly #publicKey: string | undefined;
  readonly #now: () => number;
  readonly #emitter: Emitter;
  readonly #wake: (inMs: number) => void;
  #lastEventAt = -Infinity;
  /** Central's last answer named a newer model. */
  #newerOffered = false;

  constructor(
    options: OpenOptions,
    device: Device,
    central: Central | undefined,
    emitter: Emitter,
    wake: (inMs: number) => void,
  ) {
    this.idleMs = options.idleMs ?? 60_000;
    this.#device = device;
    this.#central = central;
    this.#site = options.site;
    this.#publicKey = options.publicKey;
    this.#now = options.now ?? Date.now;
    this.#emitter = emitter;
    this.#wake = wake;
  }

  /** Whether deltas go out at all. */
  get sends(): boolean {
    return this.#central !== undefined && this.#device.consent.share;
  }

  /** Notes an event: the idle time begins again. */
  learned(now: number): void {
    this.#lastEventAt = performance.now();
    if (this.sends) this.#wake(this.#device.user.deltaDue(now) ? 0 : this.idleMs);
  }

  /** Runs one round: deltas first, then the model. */
  async round(round: Round): Promise<SyncReport> {
    const from = this.#device.model.version;
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
    const { version } = this.#device.model;
    return { sent, version, updated: version !== from };
  }

  /**
   * Sends what is unsent while the page goes away: there is no time to write first.
   *
   * So the id was written before, beside the state. Should this write be lost, the next visit finds
   * the same unsent events and the same id, and sends them again under it.
   */
  leave(): void {
    const device = this.#device;
    device.saveModelIfUnsaved();
    const central = this.#central;
    if (!central || !this.sends) return;
    const { nextIdIsDurable, token } = device;
    if (!device.take()) return;
    device.saveState();
    if (!token || !nextIdIsDurable) return this.#wake(0);
    const { user } = device;
    central
      .sync(user.encodeSync(this.#site, token), true)
      .then((answer) => this.#settle(user, answer))
      .catch((thrown: unknown) => {
        this.#emitter.report(thrown, 'sync.failed');
        this.#wake(this.idleMs);
      });
  }

  async #send({ flush = false }: Round, sent: SentDelta[]): Promise<void> {
    const device = this.#device;
    const central = this.#central;
    if (!central || !this.sends) return;
    const now = this.#now();
    const idleInMs = this.#lastEventAt + this.idleMs - performance.now();
    if (flush || idleInMs <= 0 || device.user.deltaDue(now)) {
      while (device.take());
    } else {
      // Woken early, or for another reason: the idle time is still to come.
      this.#wake(idleInMs);
    }
    // The id is durable before the first send: after a crash the same delta goes out again, and
    // central counts it once.
    await device.saveOutbox();
    while (this.sends && device.user.outbox().length > 0) {
      if (!device.token) {
        device.token = await central.device();
        await device.writes.save('token');
      }
      const { user } = device;
      const oldest = user.outbox()[0]?.id;
      const answer = await central.sync(user.encodeSync(this.#site, device.token), false);
      sent.push(...this.#settle(user, answer));
      // Asking again at once would get the same answer.
      if (user === device.user && user.outbox()[0]?.id === oldest) {
        throw new NearfieldError('sync.unanswered', 'central answered none of the deltas that were sent');
      }
    }
  }

  /** Takes central's answer, and gives what it settled. */
  #settle(user: User, answer: Uint8Array): SentDelta[] {
    const device = this.#device;
    // Forgotten or closed meanwhile: the answer is about nobody.
    if (user !== device.user || device.freed) return [];
    const waiting = new Map(user.outbox().map((entry) => [entry.id, entry]));
    const { results, lineage, version } = user.settle(answer);
    const settled: SentDelta[] = [];
    for (const result of results) {
      const entry = waiting.get(result.id);
      if (entry) settled.push({ ...result, bytes: entry.bytes, items: entry.items, time_ms: this.#now() });
    }
    this.sent.push(...settled);
    if (this.sent.length > SENT_MAX) this.sent.splice(0, this.sent.length - SENT_MAX);
    if (results.some((result) => result.reason === 'token')) device.token = undefined;
    this.#newerOffered = lineage !== device.model.lineage || version > device.model.version;
    device.saveState();
    this.#emitter.emit('sync', { sent: settled, version: device.model.version, updated: false });
    return settled;
  }

  /** Brings the model up to the signed manifest, by a patch or by the whole pack. */
  async #poll(): Promise<void> {
    const device = this.#device;
    const central = this.#central;
    if (!central || !this.#publicKey || !device.ownsModel) return;
    this.#newerOffered = false;
    const held = { lineage: device.model.lineage, version: device.model.version };
    const manifest = verifyManifest(await central.manifest(), this.#publicKey, this.#site, held, this.#now());
    try {
      if (manifest.lineage === held.lineage && manifest.version === held.version) return;
      let via: 'patch' | 'pack' = 'pack';
      let bytes = manifest.lineage === held.lineage ? manifest.patchBytes(held.version) : undefined;
      if (bytes !== undefined) {
        try {
          const patch = await central.patch(held.version, manifest.version);
          manifest.checkPatch(held.version, patch);
          device.model.apply(patch);
          via = 'patch';
        } catch (thrown) {
          // The model is unchanged: a patch that does not fit leaves the whole pack to be had.
          this.#emitter.report(thrown, 'patch.failed');
        }
      }
      if (via === 'pack') {
        const pack = await central.pack(manifest.version);
        manifest.checkPack(pack);
        device.replaceModel(Model.load(pack));
        bytes = pack.length;
      }
      const { lineage, version } = device.model;
      device.saveModel();
      this.#emitter.emit('model', { lineage, version, from: held.version, via, bytes: bytes ?? 0 });
      this.#emitter.emit('recommendations', { reason: 'model' });
    } finally {
      manifest.free();
    }
  }
}
