// One person's state in the core, with types and errors of our own.

import { raw, type RawUser } from './binding.js';
import { Handle, guarded } from './handle.js';
import type { Event } from './event.js';
import type { Model } from './model.js';
import { readReasons, type Reason } from './reasons.js';
import { Ranking, checkRequest, type RecommendRequest } from './ranking.js';

const NO_ROWS = new Uint32Array(0);

/** What became of an event: learnt, its id counted before, or context only, as impressions and searches are. */
export type Learned = 'applied' | 'duplicate' | 'context';

/** One entry of the history on the device. */
export interface HistoryEntry {
  /** The item's stable key, in hexadecimal. */
  key: string;
  /** The operator's id, if the model knows the item. */
  itemId?: string;
  kind: string;
  timeMs: number;
}

/** What a delta holds: everything that leaves the device. */
export interface DeltaPreview {
  /** The lineage and version that it was computed on. */
  lineage: string;
  baseVersion: number;
  /** Bytes of the delta, its envelope not counted. */
  bytes: number;
  /** The taste: a quantised factor and its scale. */
  factor: Int8Array;
  factorScale: number;
  /** New weight over all weight. */
  share: number;
  /** The items touched since the last delta, in order. */
  items: { itemId: string; row: number; kind: string; startsSession: boolean }[];
  /** How good the lists were, by model version: counts only. */
  metrics: { version: number; bins: number[] }[];
}

/** A delta that waits to be acknowledged. */
export interface OutboxEntry {
  /** Its random id, in hexadecimal. */
  id: string;
  bytes: number;
  items: number;
}

/** What became of a delta. */
export interface Settled {
  id: string;
  /** `acknowledged`, `duplicate`, or `refused`. */
  outcome: 'acknowledged' | 'duplicate' | 'refused';
  /** Why it was refused, as a short stable name. */
  reason?: string;
}

/** The answer of a sync: what became of each delta, and the newest model. */
export interface SyncAnswer {
  results: Settled[];
  lineage: string;
  version: number;
}

/** How well the lists foresaw what the person chose, as counts. */
export interface Quality {
  /** Choices by the rank that the item had in the list before: 1, 2–5, 6–10, 11–20, beyond. */
  bins: number[];
  /** All choices counted. */
  total: number;
}

/** One person's state. Many may share one model. */
export class User {
  readonly #handle: Handle<RawUser>;

  constructor(restored?: Uint8Array) {
    this.#handle = new Handle(guarded(() => (restored === undefined ? new (raw().User)() : raw().User.fromBytes(restored))));
  }

  /** Restores what `toBytes` gave. Throws `state.*` if it cannot. */
  static fromBytes(bytes: Uint8Array): User {
    return new User(bytes);
  }

  /** The state as bytes, the outbox with its ids included. */
  toBytes(): Uint8Array {
    return this.#handle.use((user) => user.toBytes());
  }

  /** Checks an event without learning from it. Throws `event.*`. */
  static check(event: Event, nowMs: number): void {
    guarded(() => raw().checkEvent(...fields(event), nowMs));
  }

  /** Learns from one event; throws `event.*`. Where the person does not share, no delta will carry it. */
  learn(model: Model, event: Event, nowMs: number = Date.now(), shares = true): Learned {
    return this.#handle.use((user) => user.track(model.raw, ...fields(event), nowMs, shares)) as Learned;
  }

  /** Takes the head of a list that another copy of this state showed for the one shown last. */
  wasShown(model: Model, version: number, rows: Uint32Array): void {
    this.#handle.use((user) => user.wasShown(model.raw, version, rows));
  }

  /** The person's list. Throws `recommend.*` where the request is none. */
  recommend(model: Model, request: RecommendRequest = {}): Ranking {
    const { count, scenario, allow, deny, diversity, explore, seed, shown } = checkRequest(request);
    const rows = (given: RecommendRequest['deny']) => given && model.rowsOf(given);
    const list = this.#handle.use((user) =>
      user.recommend(model.raw, count, scenario === 'continue', rows(allow), rows(deny) ?? NO_ROWS, diversity, explore, seed, shown),
    );
    return new Ranking(list, model);
  }

  /** Why each item of a list is in it: the two parts of the score that weigh most. */
  explain(model: Model, rows: Uint32Array, scenario: RecommendRequest['scenario'] = 'discover'): Reason[][] {
    const packed = this.#handle.use((user) => user.explain(model.raw, scenario === 'continue', rows));
    return readReasons(packed, (row) => model.itemId(row));
  }

  /** Whether a delta should go out now: 20 events, or something new and a minute idle. */
  deltaDue(nowMs: number = Date.now()): boolean {
    return this.#handle.use((user) => user.deltaDue(nowMs));
  }

  /**
   * Moves what was learnt since the last delta into the outbox, under a random id of 16 bytes.
   * Returns false if there is nothing new. Store `toBytes()` before the first send. A delta that may have
   * been sent under this id before is given the version `base` that it was based on then.
   */
  takeDelta(model: Model, id: Uint8Array = randomId(), base?: number): boolean {
    return this.#handle.use((user) => user.takeDelta(model.raw, id, base));
  }

  /** What `takeDelta` would move, or null; changes nothing. */
  previewDelta(model: Model): DeltaPreview | null {
    const preview = this.#handle.use((user) => user.previewDelta(model.raw)) as Omit<DeltaPreview, 'items'> & {
      items: { row: number; kind: string; startsSession: boolean }[];
    } | null;
    return preview && { ...preview, items: preview.items.map((item) => ({ itemId: model.itemId(item.row), ...item })) };
  }

  /** Drops the events that are in no delta yet, and the outbox: nothing of it will ever be sent. */
  discardDeltas(): void {
    this.#handle.use((user) => user.discardDeltas());
  }

  /** The deltas that wait for an acknowledgement. */
  outbox(): OutboxEntry[] {
    return this.#handle.use((user) => user.outbox()) as OutboxEntry[];
  }

  /** The body of a sync: the oldest deltas of the outbox, up to what one body may hold. */
  encodeSync(site: string, token: Uint8Array): Uint8Array {
    return this.#handle.use((user) => user.encodeSync(site, token));
  }

  /** Takes a sync's answer: what is acknowledged, doubled or refused leaves the outbox. */
  settle(reply: Uint8Array): SyncAnswer {
    return this.#handle.use((user) => user.settle(reply)) as SyncAnswer;
  }

  /** The history, newest last. */
  history(model: Model): HistoryEntry[] {
    return this.#handle.use((user) => user.history(model.raw)) as HistoryEntry[];
  }

  /** How well the lists foresaw what was chosen. */
  quality(): Quality {
    const bins = Array.from(this.#handle.use((user) => user.quality()));
    return { bins, total: bins.reduce((sum, count) => sum + count, 0) };
  }

  /** Events that are in no delta yet. */
  get unsent(): number {
    return this.#handle.use((user) => user.unsent);
  }

  /** Events in the history. */
  get length(): number {
    return this.#handle.use((user) => user.length);
  }

  /** Gives the memory back at once; the user must not be used after. */
  free(): void {
    this.#handle.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

function fields({ kind, itemId, timeMs, value, eventId, sessionId }: Event) {
  return [kind, itemId, timeMs, value, eventId, sessionId] as const;
}

/** 128 random bits from the browser's generator: the name of a delta. */
export function randomId(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(16));
}

/** Bytes in hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
