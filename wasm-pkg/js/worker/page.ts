/**
 * Nearfield with its core in a Web Worker: the same names, but that each call gives a promise, so that not even a
 * catalogue of a million items holds up the page.
 *
 * ```js
 * import { Nearfield } from 'nearfield/worker';
 * const nf = await Nearfield.open({ endpoint: 'https://central.example', publicKey, site: 'shop' });
 * for (const { itemId } of await nf.recommend({ count: 12 })) show(itemId);
 * ```
 *
 * @packageDocumentation
 */

import type { SentDelta } from '../central/reports.js';
import { Emitter, type NearfieldEvents } from '../emitter.js';
import { NearfieldError } from '../error.js';
import { Instances, type EndUse } from '../instances.js';
import type { Nearfield as InPage, Told, Tracked } from '../nearfield.js';
import type { OpenOptions as InPageOptions } from '../options.js';
import type { RecommendRequest } from '../core/ranking.js';
import type { Consent, ConsentInForce } from '../person/consent.js';
import { follow } from '../track/data-layer.js';
import type { TrackPayload } from '../track/read.js';
import type { Happened, Make, Method, MethodCall, PageState, ToPage, ToldError } from './message.js';

export { NearfieldError } from '../error.js';
export type { SentDelta, SyncReport } from '../central/reports.js';
export type { RecommendRequest, Ranked } from '../core/ranking.js';
export type { Part, Reason } from '../core/reasons.js';
export type { DeltaPreview, HistoryEntry, OutboxEntry, Quality } from '../core/user.js';
export type { NearfieldEvents } from '../emitter.js';
export type { Export, Inspection, Recommendation, Tracked } from '../nearfield.js';
export type { Consent, ConsentInForce } from '../person/consent.js';
export type { Ignored, TrackItem, TrackPayload } from '../track/read.js';

/** How to open: what a page without a worker takes, as far as it can be handed to a worker. */
export interface OpenOptions extends Omit<InPageOptions, 'storage' | 'model' | 'now'> {
  /** Where to keep what was learnt, once there is consent (default: IndexedDB where there is one, else memory). */
  storage?: 'indexeddb' | 'memory';
  /** A pack to begin with. */
  model?: Uint8Array;
  /** A worker that runs `nearfield/worker-thread` (default: one for the page, from the script beside this one). */
  worker?: Worker;
}

/** What a method of an instance in the page gives, as a promise. */
type Later<Name extends keyof InPage> = InPage[Name] extends (...args: never[]) => infer Given ? Promise<Awaited<Given>> : never;

/** One person's recommender, in a worker of this page. */
export class Nearfield {
  readonly #remote: Remote;
  readonly #instance: number;
  readonly #endUse: EndUse;
  readonly #emitter = new Emitter();
  readonly #left: LeftBehind;
  readonly #sent: SentDelta[] = [];
  #closed: Promise<void> | undefined;

  private constructor(remote: Remote, instance: number, site: string, endUse: EndUse) {
    this.#remote = remote;
    this.#instance = instance;
    this.#endUse = endUse;
    this.#left = new LeftBehind(site);
    remote.sides.set(instance, {
      event: (name, detail) => {
        if (name === 'sync') this.#sent.push(...(detail as NearfieldEvents['sync']).sent);
        if (name === 'error') this.#emitter.report(detail, 'worker.failed');
        else this.#emitter.emit(name, detail);
      },
      left: this.#left,
    });
  }

  /** Opens as `Nearfield.open` of the package does, in the worker. Rejects with what that rejects with. */
  static async open(options: OpenOptions): Promise<Nearfield> {
    check(options);
    return opened.use(options, (end) => Nearfield.#make('open', options, [], end));
  }

  /** Opens with a state that `snapshot` gave. */
  static async restore(state: Uint8Array, options: OpenOptions): Promise<Nearfield> {
    check(options);
    return Nearfield.#make('restore', options, [state], (close) => close());
  }

  static async #make(make: 'open' | 'restore', { worker, ...options }: OpenOptions, before: unknown[], end: EndUse): Promise<Nearfield> {
    const remote = remoteOf(worker);
    const nf = new Nearfield(remote, (instances += 1), options.site, end);
    try {
      await remote.call({ instance: nf.#instance, make, args: [...before, options], page: pageState() });
    } catch (thrown) {
      remote.drop(nf.#instance);
      throw thrown;
    }
    // What the last page could not hand over any more.
    for (const observed of nf.#left.take()) void nf.#tell(observed);
    return nf;
  }

  /** Learns from what a page tracks, as GA4 and Segment have it. It never throws and never rejects. */
  track(name: string, payload?: TrackPayload): Promise<Tracked> {
    return this.#observe(name, payload);
  }

  /** Learns that the person chose an item of a list. It never throws and never rejects. */
  clicked(recommendationId: string, itemId: string | number): Promise<Tracked> {
    return this.#observe('click', itemId, { recommendationId });
  }

  async #observe(name: string, payload?: TrackPayload, more: Told = {}): Promise<Tracked> {
    try {
      // Under an id, so that it counts once though a later page tells it again.
      return await this.#tell([name, cloneable(payload), { ...more, at: Date.now(), id: `${PAGE}-${(observations += 1)}` }]);
    } catch {
      return { applied: 0, duplicate: 0, context: 0, ignored: this.#closed ? 0 : 1 };
    }
  }

  #tell(observed: Observed): Promise<Tracked> {
    return this.#call('observe', observed);
  }

  /** Tracks what is in the page's `dataLayer`, and what is pushed to it; returns how to stop that. */
  dataLayer(layer: unknown[]): () => void {
    return follow(layer, (name, payload) => void this.track(name as string, payload as TrackPayload));
  }

  /** The person's list, best first. It counts as shown. Rejects with `recommend.*` where the request is none. */
  recommend(request: RecommendRequest = {}): Later<'recommend'> {
    return this.#call('recommend', [listed(request)]);
  }

  /** A list that is not shown, or not yet: `clicked` makes it count. */
  peek(request: RecommendRequest = {}): Later<'peek'> {
    return this.#call('peek', [listed(request)]);
  }

  /** The most popular items: the same for everyone. */
  popular(options: { count?: number } = {}): Later<'popular'> {
    return this.#call('popular', [options]);
  }

  /** The items most like this one. */
  similar(itemId: string | number, options: { count?: number } = {}): Later<'similar'> {
    return this.#call('similar', [itemId, options]);
  }

  /** Sends what was learnt and looks for a newer model, now. It also happens by itself. */
  sync(): Later<'sync'> {
    return this.#call('sync', []);
  }

  /** All that is kept about the person on this device. */
  inspect(): Later<'inspect'> {
    return this.#call('inspect', []);
  }

  /** All that is known about the person, as plain values: to show, to keep, or to hand over. */
  export(): Later<'export'> {
    return this.#call('export', []);
  }

  /** What would be sent now, to the byte; null if there is nothing new or no consent to share it. */
  inspectDelta(): Later<'inspectDelta'> {
    return this.#call('inspectDelta', []);
  }

  /** The person's state as bytes, for `restore`. */
  snapshot(): Later<'snapshot'> {
    return this.#call('snapshot', []);
  }

  /** Resolves once all that was tracked so far is in storage; rejects if it could not be written. */
  flush(): Later<'flush'> {
    return this.#call('flush', []);
  }

  /** Calls `listener` at every such event, and returns how to stop that. */
  on<Name extends keyof NearfieldEvents>(name: Name, listener: (detail: NearfieldEvents[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Rises whenever the list may have changed: as long as it is the same, `recommend` need not be asked again. */
  get revision(): number {
    return this.#emitter.revision;
  }

  /** What was sent in this page, oldest first. */
  get sent(): readonly SentDelta[] {
    return this.#sent;
  }

  /** Resolves when lists can be had: at once, or when the core is back after a trap. */
  get ready(): Promise<this> {
    return this.#call('ready', []).then(() => this);
  }

  /** Forgets the person: history, taste, outbox and token, in memory and in storage. */
  async forget(): Promise<void> {
    this.#left.drop();
    await this.#call('forget', []);
  }

  /** Changes the consent and gives the one in force, as `consent` of an instance in the page does. */
  async consent(changes: Partial<Consent> = {}): Promise<ConsentInForce> {
    if (changes.personalise === false) this.#left.drop();
    return this.#call('consent', [changes]);
  }

  /** Ends the background work, writes what is unwritten, and frees the memory. */
  async close(): Promise<void> {
    if (this.#closed) return this.#closed;
    await this.#endUse(() => {
      const closing = this.#call('close', []);
      this.#closed = closing;
      return closing.finally(() => this.#remote.drop(this.#instance));
    });
  }

  async #call<Name extends Method>(method: Name | 'ready', args: unknown[]): Promise<Awaited<Later<Name>>> {
    if (this.#closed) throw new NearfieldError('nearfield.closed', 'this Nearfield is closed');
    return (await this.#remote.call({ instance: this.#instance, method, args })) as Awaited<Later<Name>>;
  }
}

// A page that opens a site twice gets the same instance.
const opened = new Instances<Nearfield>();
let instances = 0;

/** Names what this page observes. */
const PAGE = crypto.getRandomValues(new Uint32Array(3)).join('-');
let observations = 0;

/** What cannot be handed to a worker. */
function check(options: OpenOptions): void {
  const { storage, model, now } = options as InPageOptions;
  const refuse = (field: string, message: string) => {
    throw new NearfieldError(`options.${field}`, `${message}: it cannot be handed to a worker`, { field });
  };
  if (typeof storage === 'object') refuse('storage', 'storage must be a name');
  if (model !== undefined && !(model instanceof Uint8Array)) refuse('model', 'model must be the bytes of a pack');
  if (now !== undefined) refuse('now', 'there must be no clock');
}

/** One worker, seen from the page. */
class Remote {
  readonly sides = new Map<number, Side>();
  readonly #worker: Worker;
  readonly #ended = new AbortController();
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: unknown): void }>();
  #calls = 0;
  /** The script runs. */
  #heard = false;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener('message', ({ data }: MessageEvent<ToPage>) => this.#receive(data));
    worker.addEventListener('error', ({ message }) => this.#failed(new NearfieldError('worker.failed', message || "the worker's script cannot be run")));
    this.#tellOfPage();
  }

  /** Forgets an instance; a worker that we made ends with its last one. */
  drop(instance: number): void {
    this.sides.delete(instance);
    if (this.sides.size === 0) this.#end();
  }

  #end(): void {
    if (own !== this) return;
    own = undefined;
    this.#ended.abort();
    this.#worker.terminate();
  }

  call(asked: Make | MethodCall): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = (this.#calls += 1);
      this.#worker.postMessage({ call, ...asked });
      this.#waiting.set(call, { resolve, reject });
      if ('method' in asked && asked.method === 'observe') this.sides.get(asked.instance)?.left.observed(call, asked.args as Observed);
    });
  }

  /** A script that cannot be had, or that the page's policy forbids; or a mistake in one that runs. */
  #failed(error: NearfieldError): void {
    if (this.#heard) return this.sides.forEach((side) => side.event('error', error as never));
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#end();
  }

  #receive(told: ToPage): void {
    this.#heard = true;
    if ('event' in told) {
      const detail = told.event === 'error' ? errorOf(told.detail) : told.detail;
      return this.sides.get(told.instance)?.event(told.event, detail as never);
    }
    if ('stored' in told) return this.sides.get(told.instance)?.left.stored(told.stored, told.keeps);
    const { call, value, error } = told;
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    if (error) waiting?.reject(errorOf(error));
    else waiting?.resolve(value);
  }

  #tellOfPage(): void {
    const tell = ({ type, persisted }: Event & { persisted?: boolean }) => {
      const message: Happened = { happened: type, persisted: persisted ?? false, page: pageState() };
      this.#worker.postMessage(message);
    };
    const { signal } = this.#ended;
    globalThis.addEventListener('pagehide', () => this.sides.forEach(({ left }) => left.keep()), { signal });
    // It was kept for the back button, and its worker with all that it had been told.
    const back = ({ persisted }: PageTransitionEvent) => persisted && this.sides.forEach(({ left }) => left.forget());
    globalThis.addEventListener('pageshow', back, { signal });
    document.addEventListener('visibilitychange', tell, { signal });
    for (const type of ['pagehide', 'pageshow', 'online']) globalThis.addEventListener(type, tell, { signal });
  }
}

/** What a page told its worker: the arguments of `observe`. */
type Observed = [name: string, payload: unknown, told: Told];

/** The page's side of an instance. */
interface Side {
  event(name: keyof NearfieldEvents, detail: never): void;
  left: LeftBehind;
}

/**
 * What a page told its worker and is not known to be stored when the page goes away: the worker ends with the page,
 * and perhaps it did not live to write. The next page tells it again, and each event counts once by its id.
 */
class LeftBehind {
  /** Whether the person is kept: else nothing may be. */
  #keeps = false;
  readonly #key: string;
  #unstored: { call: number; observed: Observed }[] = [];

  constructor(site: string) {
    this.#key = `nearfield:${site}`;
  }

  observed(call: number, observed: Observed): void {
    this.#unstored = [...this.#unstored.slice(1 - LEFT_MAX), { call, observed }];
  }

  /** Whatever was observed up to this call needs nothing any more. */
  stored(call: number, keeps: boolean): void {
    this.#unstored = this.#unstored.filter((one) => one.call > call);
    this.#keeps = keeps;
  }

  /** Keeps what the worker may not live to write. */
  keep(): void {
    if (!this.#keeps || this.#unstored.length === 0) return;
    const observed = [...this.#read(), ...this.#unstored.map((one) => one.observed)];
    try {
      localStorage.setItem(this.#key, JSON.stringify(observed.slice(-LEFT_MAX)));
    } catch {
      // No room, or a window that has none: the last clicks before a page went away are lost.
    }
  }

  /** Forgets all of it. */
  drop(): void {
    this.#unstored = [];
    this.forget();
  }

  /** Gives what is there, and leaves nothing. */
  take(): Observed[] {
    const observed = this.#read();
    this.forget();
    return this.#keeps ? observed : [];
  }

  forget(): void {
    try {
      localStorage.removeItem(this.#key);
    } catch {
      // A window without storage.
    }
  }

  #read(): Observed[] {
    try {
      const kept: unknown = JSON.parse(localStorage.getItem(this.#key) ?? '[]');
      return Array.isArray(kept) ? kept : [];
    } catch {
      return [];
    }
  }
}

// A choice: far more than a worker has before it when a page goes away.
const LEFT_MAX = 100;

let own: Remote | undefined;
const remotes = new WeakMap<Worker, Remote>();

function remoteOf(worker: Worker | undefined): Remote {
  if (!worker) return (own ??= new Remote(new Worker(new URL('./worker-thread.js', import.meta.url), { type: 'module' })));
  let remote = remotes.get(worker);
  if (!remote) remotes.set(worker, (remote = new Remote(worker)));
  return remote;
}

function pageState(): PageState {
  return { hidden: document.visibilityState === 'hidden', doNotTrack: (navigator as { doNotTrack?: string | null }).doNotTrack ?? null };
}

function errorOf({ code, message, ...more }: ToldError): NearfieldError {
  return new NearfieldError(code, message, more);
}

/** A payload that can cross: tag managers put elements and functions of the page beside what matters. */
function cloneable(payload: unknown): unknown {
  try {
    return structuredClone(payload);
  } catch {
    return JSON.parse(JSON.stringify(payload));
  }
}

/** A request whose iterables can cross. */
function listed(request: RecommendRequest): RecommendRequest {
  const plain: Record<string, unknown> = { ...request };
  for (const name of ['allow', 'deny']) {
    const given = plain[name];
    if (typeof given === 'object' && given !== null && Symbol.iterator in given) plain[name] = [...(given as Iterable<unknown>)];
  }
  return plain;
}
