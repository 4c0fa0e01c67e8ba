// The exchange with central: deltas out, models in.

import type { Round } from './background.js';
import { CentralError, type Central } from './central.js';
import type { Device } from '../person/device.js';
import type { Emitter } from '../emitter.js';
import { NearfieldError } from '../error.js';
import type { Opened } from '../open.js';
import { verifyManifest } from '../core/manifest.js';
import type { OpenOptions } from '../options.js';
import type { SentDelta, SyncReport } from './reports.js';
import { bringUp } from './update.js';
import { hasExpired } from '../person/token.js';

const SENT_MAX = 500;

// A choice far below the day for which central accepts deltas on an older version by default.
const MODEL_CHECK_MS = 3_600_000;

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
  /** When it was last known that no newer model is to be had. */
  #modelCheckedAt: number;
  /** What a page that went away could not send goes out in the next round. */
  #flushNext = false;

  constructor(
    options: OpenOptions,
    { central, device, modelIsNew }: Opened,
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
    this.#modelCheckedAt = modelIsNew ? this.#now() : -Infinity;
  }

  /** Notes an event: the idle time begins again. */
  learned(now: number): void {
    this.#lastEventAt = performance.now();
    if (this.#device.sends) this.#wake(this.#device.user.deltaDue(now) ? 0 : this.idleMs);
  }

  /** Runs one round: the model first, so that deltas are made on the newest. */
  async round(round: Round): Promise<SyncReport> {
    if (this.#device.lost) throw new NearfieldError('core.lost', 'the core trapped and begins again');
    await this.#device.keepAgain();
    const from = this.#device.model.version;
    // The tab that writes does it for all.
    if (this.#device.role === 'follower') return { sent: [], version: from, updated: false };
    const sent: SentDelta[] = [];
    const failures: unknown[] = [];
    const attempt = (step: Promise<unknown>) => step.catch((thrown: unknown) => void failures.push(thrown));
    const flush = round.flush || this.#flushNext;
    this.#flushNext = false;
    const due = this.#due(flush);
    // A page that nobody looks at needs no newer model until it is looked at.
    const hidden = !flush && globalThis.document?.visibilityState === 'hidden';
    const wanted = () => this.#newerOffered && !hidden;
    if ((round.poll && !hidden) || wanted() || (due && this.#modelIsUnchecked)) await attempt(this.#poll());
    // Asked for before there is anything to send, so that a page that goes away can send.
    if (this.#central && this.#device.sends) await attempt(this.#usableToken(this.#central));
    // A model that was refused is no reason to keep deltas back; a central that is away is.
    if (!failures.some((thrown) => thrown instanceof CentralError)) await attempt(this.#send(due, sent));
    if (wanted()) await attempt(this.#poll());
    if (failures.length > 0) throw failures[0];
    const { version } = this.#device.model;
    return { sent, version, updated: version !== from };
  }

  /**
   * Sends what is unsent while the page goes away: there is no time to write first.
   *
   * So the delta's name was written before, beside the state. Should this write be lost, the next visit
   * finds the same unsent events and the same name, and sends them again under it.
   */
  leave(): void {
    const device = this.#device;
    if (device.lost) return;
    device.saveModelIfUnsaved();
    const central = this.#central;
    if (!central || !device.sends || device.user.unsent === 0) return;
    const { mayLeave, token, epoch } = device;
    if (!token || hasExpired(token, this.#now()) || !mayLeave || this.#modelIsUnchecked) {
      // A delta is made when it can be sent: perhaps the page lives on, else at the next visit.
      device.saveState();
      this.#flushNext = true;
      return this.#wake(0);
    }
    if (!device.take()) return;
    device.saveState();
    central
      .sync(device.user.encodeSync(this.#site, token), true)
      .then((answer) => this.#settle(epoch, answer))
      .catch((thrown: unknown) => {
        this.#emitter.report(thrown, 'sync.failed');
        this.#wake(this.idleMs);
      });
  }

  /** Whether the model may be older than what central accepts deltas on. */
  get #modelIsUnchecked(): boolean {
    const canCheck = this.#publicKey !== undefined && this.#device.ownsModel;
    return canCheck && this.#now() - this.#modelCheckedAt > MODEL_CHECK_MS;
  }

  /** Whether what was learnt is to go out now. */
  #due(flush: boolean): boolean {
    if (!this.#device.sends || (!flush && this.#device.user.unsent === 0)) return false;
    const idleInMs = this.#lastEventAt + this.idleMs - performance.now();
    if (flush || idleInMs <= 0 || this.#device.user.deltaDue(this.#now())) return true;
    // Woken early, or for another reason: the idle time is still to come.
    this.#wake(idleInMs);
    return false;
  }

  /** Sends what waits for an answer, and then what is due, in deltas made now. */
  async #send(due: boolean, sent: SentDelta[]): Promise<void> {
    const device = this.#device;
    const central = this.#central;
    if (!central) return;
    let made = false;
    while (device.sends) {
      if (device.user.outbox().length === 0) {
        if (made || !due) return;
        made = true;
        while (device.take());
        continue;
      }
      // The id is durable before the first send: after a crash the same delta goes out again, and
      // central counts it once.
      await device.saveOutbox();
      await this.#exchange(central, sent);
    }
  }

  /** A token that holds, asked for where there is none; undefined where none is wanted any more. */
  async #usableToken(central: Central): Promise<Uint8Array | undefined> {
    const device = this.#device;
    const { token, epoch } = device;
    if (token && !hasExpired(token, this.#now())) return token;
    const issued = await central.device();
    // The consent was taken back, or the person forgotten, while the token was under way.
    if (epoch !== device.epoch || !device.sends) return undefined;
    device.keepToken(issued);
    return issued;
  }

  /** Sends the oldest deltas of the outbox. A token that central does not take is replaced once. */
  async #exchange(central: Central, sent: SentDelta[]): Promise<void> {
    const device = this.#device;
    for (let renewed = false; ; renewed = true) {
      const token = await this.#usableToken(central);
      const oldest = device.user.outbox()[0]?.id;
      const { epoch } = device;
      if (!token || oldest === undefined || !device.sends) return;
      try {
        const answer = await central.sync(device.user.encodeSync(this.#site, token), false);
        sent.push(...this.#settle(epoch, answer));
      } catch (thrown) {
        if (renewed || !(thrown instanceof CentralError) || thrown.code !== 'central.token') throw thrown;
        if (epoch === device.epoch) device.token = undefined;
        continue;
      }
      // Asking again at once would get the same answer.
      if (epoch === device.epoch && device.user.outbox()[0]?.id === oldest) {
        throw new NearfieldError('sync.unanswered', 'central answered none of the deltas that were sent');
      }
      return;
    }
  }

  /** Takes central's answer, and gives what it settled. */
  #settle(epoch: number, answer: Uint8Array): SentDelta[] {
    const device = this.#device;
    // Forgotten, withdrawn or closed meanwhile: the answer is about nobody.
    if (epoch !== device.epoch || device.freed) return [];
    const waiting = new Map(device.user.outbox().map((entry) => [entry.id, entry]));
    const { results, lineage, version } = device.settle(answer);
    const settled: SentDelta[] = [];
    for (const result of results) {
      const entry = waiting.get(result.id);
      if (entry) settled.push({ ...result, bytes: entry.bytes, items: entry.items, timeMs: this.#now() });
    }
    this.#note(settled);
    this.#newerOffered = lineage !== device.model.lineage || version > device.model.version;
    this.#emitter.emit('sync', { sent: settled, version: device.model.version, updated: false });
    return settled;
  }

  /** Notes what central answered the tab that writes. */
  settledElsewhere(report: SyncReport): void {
    this.#note(report.sent);
    this.#emitter.emit('sync', report);
  }

  #note(settled: readonly SentDelta[]): void {
    this.sent.push(...settled);
    if (this.sent.length > SENT_MAX) this.sent.splice(0, this.sent.length - SENT_MAX);
  }

  /** Brings the model up to the signed manifest, by a patch or by the whole pack. */
  async #poll(): Promise<void> {
    const device = this.#device;
    const central = this.#central;
    if (!central || !this.#publicKey || !device.ownsModel) return;
    this.#newerOffered = false;
    const from = device.model.version;
    const signed = await central.manifest();
    const held = { model: device.model, manifest: device.manifest };
    const manifest = await verifyManifest(signed, this.#publicKey, this.#site, held, this.#now());
    try {
      device.keepManifest(signed);
      const brought = await bringUp(central, manifest, device.model, device.keepsModel, (thrown) => this.#emitter.report(thrown, 'patch.failed'));
      this.#modelCheckedAt = this.#now();
      if (!brought) return;
      if (brought.patch) device.patched(brought.patch);
      else device.replaceModel(brought);
      device.saveModel();
      // With the next delta's name, which holds the version.
      device.saveState();
      const { lineage, version, packBytes } = manifest;
      const { patch } = brought;
      this.#emitter.emit('model', { lineage, version, from, via: patch ? 'patch' : 'pack', bytes: patch?.length ?? packBytes });
      this.#emitter.emit('recommendations', { reason: 'model' });
    } finally {
      manifest.free();
    }
  }
}
