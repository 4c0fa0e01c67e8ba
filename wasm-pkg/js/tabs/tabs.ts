// One writer for each site: this tab's part among those that have the site open.
//
// The writer keeps the person and exchanges with central. A follower learns and ranks at once on its own
// copy, tells the writer what it learnt, and takes over the state that the writer stored; what that state
// does not hold yet is learnt again on top of it.

import type { SyncReport } from '../central/reports.js';
import type { Emitter } from '../emitter.js';
import { NearfieldError, asNearfieldError } from '../error.js';
import { hex } from '../core/packed.js';
import { randomId } from '../core/user.js';
import type { Consent } from '../person/consent.js';
import type { Device } from '../person/device.js';
import { stand, type Election } from './election.js';
import type { Message, SyncAnswer, ToldError } from './message.js';

// Choices: longer than a sync of the writer's takes unless central is away, and short enough to notice that
// another tab has become the writer.
const SYNC_ANSWER_MS = 30_000;
const ASK_AGAIN_MS = 500;

const CLOSED: ToldError = { code: 'nearfield.closed', message: 'this Nearfield is closed' };
const UNANSWERED: ToldError = { code: 'sync.unanswered', message: 'the tab that syncs did not answer' };

/** What the tabs need of the instance that they belong to. */
export interface Host {
  /** This tab writes from now on. */
  becameWriter(): void;
  /** The writer has learnt from another tab. */
  learned(): void;
  /** The person changed what they agree to, in another tab. */
  consented(given: Consent): void;
  /** The stored state is gone: the consent to keep was taken back elsewhere. */
  withdrawn(): void;
  /** Syncs now, for another tab. */
  sync(): Promise<SyncReport>;
  /** Central answered the writer. */
  settled(report: SyncReport): void;
}

/** The tabs of one site, as seen from one of them. */
export class Tabs {
  readonly #device: Device;
  readonly #emitter: Emitter;
  readonly #host: Host;
  readonly #channel: BroadcastChannel;
  readonly #election: Election;
  readonly #stopTelling: () => void;
  /** Another tab was heard: states are told. */
  #heardOthers = false;
  /** What this tab has asked the writer for, and what it answers as the writer. */
  readonly #asked = new Map<string, (answer: SyncAnswer) => void>();
  readonly #answering = new Set<string>();
  readonly #waiting = new Set<() => void>();
  #settling: Promise<void> = Promise.resolve();
  #left = false;

  constructor(site: string, device: Device, emitter: Emitter, host: Host) {
    this.#device = device;
    this.#emitter = emitter;
    this.#host = host;
    this.#channel = new BroadcastChannel(`nearfield:${site}`);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => this.#receive(data);
    // In Node a channel must not keep a finished program alive.
    (this.#channel as { unref?: () => void }).unref?.();
    this.#election = stand(site, device.site, device.tab, () => void this.#takeTurn());
    device.onStored = (stored) => {
      if (this.#heardOthers) this.#post({ kind: 'state', ...stored });
    };
    device.onModelStored = () => this.#post({ kind: 'model' });
    device.onSuperseded = () => void this.#superseded();
    this.#stopTelling = emitter.on('sync', (report) => {
      if (device.role === 'writer') this.#post({ kind: 'settled', report });
    });
  }

  /**
   * Resolves once this tab writes, or follows the one that does. Rejects with `storage.in_use` where it
   * cannot write but has a state that is to take the place of the stored one.
   */
  async join(): Promise<void> {
    let elected: boolean;
    try {
      elected = await this.#election.decided;
    } catch (thrown) {
      this.#emitter.report(thrown, 'storage.unavailable');
      return;
    }
    if (elected) return this.#write();
    if (this.#device.replaces) {
      throw new NearfieldError('storage.in_use', 'another tab has this site open: its state cannot be replaced');
    }
    await this.#follow();
  }

  /** Tells what was learnt here. */
  learned(): void {
    if (this.#device.role === 'follower') this.#tellEvents();
  }

  /** Tells that the person was forgotten, and what was learnt since. */
  forgot(): void {
    this.#post({ kind: 'forget', generation: this.#device.generation });
    this.learned();
    this.#wakeWaiting();
  }

  /** Tells what was agreed to. */
  consented(given: Consent): void {
    this.#post({ kind: 'consent', given });
  }

  /** Resolves once the writer has stored what was learnt here. */
  async stored(): Promise<void> {
    const { number } = this.#device.replica;
    const isStored = () => this.#device.role !== 'follower' || this.#device.replica.keptUpTo >= number;
    while (!isStored() && !this.#left) await new Promise<void>((done) => this.#waiting.add(done));
  }

  /** Resolves once it is known who writes, after this tab was superseded. */
  settled(): Promise<void> {
    return this.#settling;
  }

  /**
   * Asks the writer to sync, whichever tab that is by then; this one, if it is its turn. Rejects with what
   * went wrong there.
   */
  async sync(): Promise<SyncReport> {
    const request = hex(randomId());
    const answered = new Promise<SyncAnswer>((answer) => this.#asked.set(request, answer));
    const start = performance.now();
    const ask = () => {
      if (this.#left) return this.#asked.get(request)?.({ error: CLOSED });
      if (performance.now() - start > SYNC_ANSWER_MS) return this.#asked.get(request)?.({ error: UNANSWERED });
      if (this.#device.role === 'writer') void this.#answerSync(request);
      else this.#post({ kind: 'sync', request });
    };
    const timer = setInterval(ask, ASK_AGAIN_MS);
    (timer as { unref?: () => void }).unref?.();
    try {
      ask();
      const { report, error } = await answered;
      if (report) return report;
      throw new NearfieldError(error?.code ?? 'sync.failed', error?.message ?? 'the tab that syncs could not');
    } finally {
      clearInterval(timer);
      this.#asked.delete(request);
    }
  }

  /** Stops listening; another tab may write. Call it when all is written. */
  async leave(): Promise<void> {
    this.#left = true;
    this.#stopTelling();
    this.#channel.close();
    this.#wakeWaiting();
    await this.#election.resign().catch(() => undefined);
  }

  async #write(): Promise<void> {
    // The others must hear of their new writer, whether or not one of them was heard.
    this.#heardOthers = true;
    await this.#device.keep(this.#election.leaseMs);
    if (this.#left) return;
    this.#wakeWaiting();
    if (this.#device.role === 'writer') this.#host.becameWriter();
    // Another tab may be able to keep what this one cannot.
    else if (!this.#device.waitsForRoom) await this.#election.resign();
  }

  /** Writes after another tab did. */
  async #takeTurn(): Promise<void> {
    await this.#write();
    // What the other has stored last may not have been heard.
    this.#takeModel();
  }

  #takeModel(): void {
    this.#device.takeStoredModel().catch((thrown: unknown) => this.#emitter.report(thrown, 'storage.failed'));
  }

  async #follow(): Promise<void> {
    await this.#device.follow();
    this.#post({ kind: 'join' });
    this.learned();
  }

  #tellEvents(): void {
    const { tab, generation, replica } = this.#device;
    if (replica.pending.length === 0) return;
    this.#post({ kind: 'events', tab, generation, observations: [...replica.pending] });
  }

  #post(message: Message): void {
    if (!this.#left) this.#channel.postMessage(message);
  }

  #receive(message: Message): void {
    if (this.#left) return;
    this.#heardOthers = true;
    try {
      this.#take(message);
    } catch (thrown) {
      this.#emitter.report(thrown, 'tabs.failed');
    }
    this.#wakeWaiting();
  }

  #take(message: Message): void {
    const device = this.#device;
    const [writes, follows] = device.lost ? [] : [device.role === 'writer', device.role === 'follower'];
    switch (message.kind) {
      case 'join':
        if (writes) device.saveState();
        break;
      case 'events':
        if (writes) this.#takeEvents(message);
        break;
      case 'state':
        if (follows) this.#takeState(message);
        break;
      case 'forget':
        this.#takeForget(message.generation);
        break;
      case 'consent':
        this.#host.consented(message.given);
        break;
      case 'model':
        if (follows) this.#takeModel();
        break;
      case 'settled':
        if (follows) this.#host.settled(message.report);
        break;
      case 'sync':
        if (writes) void this.#answerSync(message.request);
        break;
      case 'synced':
        this.#asked.get(message.request)?.(message);
    }
  }

  #takeEvents({ tab, generation, observations }: Message & { kind: 'events' }): void {
    const device = this.#device;
    // Learnt about a person who is forgotten, here or there: whoever does not know it yet is told.
    if (device.forgetting) return;
    if (generation > device.generation) return void this.#superseded();
    if (generation === device.generation && device.repeat(tab, observations)) {
      this.#emitter.emit('recommendations', { reason: 'tab' });
      this.#host.learned();
    }
    device.saveState();
  }

  #takeState({ generation, state, heard }: Message & { kind: 'state' }): void {
    const device = this.#device;
    if (device.forgetting || generation < device.generation) return;
    this.#takeForget(generation);
    if (device.takeOver(state, new Map(heard))) this.#emitter.emit('recommendations', { reason: 'tab' });
    // A writer that came after another, or back, has not heard of these.
    this.#tellEvents();
  }

  #takeForget(generation: number): void {
    if (generation <= this.#device.generation) return;
    this.#device.forgotten(generation);
    this.#emitter.emit('recommendations', { reason: 'forget' });
  }

  async #answerSync(request: string): Promise<void> {
    if (this.#answering.has(request)) return;
    this.#answering.add(request);
    let answer: SyncAnswer;
    try {
      answer = { report: await this.#host.sync() };
    } catch (thrown) {
      const { code, message } = asNearfieldError(thrown, 'sync.failed');
      answer = { error: { code, message } };
    }
    this.#answering.delete(request);
    // A tab that closes leaves the question to the next one.
    if (answer.error?.code === CLOSED.code) return;
    this.#asked.get(request)?.(answer);
    this.#post({ kind: 'synced', request, ...answer });
  }

  /** The fence is not this tab's any more: finds out why, and goes on as what it is now. */
  #superseded(): Promise<void> {
    return (this.#settling = this.#findOut());
  }

  async #findOut(): Promise<void> {
    const device = this.#device;
    try {
      const found = await device.site.read();
      if (this.#left) return;
      if (!found) return this.#host.withdrawn();
      this.#takeForget(found.fence.generation);
      if (found.fence.writer === device.tab) {
        device.role = 'writer';
        return device.saveState();
      }
      await this.#follow();
    } catch (thrown) {
      this.#emitter.report(thrown, 'storage.failed');
    }
  }

  #wakeWaiting(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
