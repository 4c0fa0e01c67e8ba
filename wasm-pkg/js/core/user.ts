// One person's state in the core, with types and errors of our own.

import * as core from '../../pkg/nearfield.js';
import { KINDS, checkEvent, type Event } from './event.js';
import { Handle, guarded } from './handle.js';
import { checkNumber } from './number.js';
import type { Model } from './model.js';
import { digits, float, hex, records, whole } from './packed.js';
import { NO_ROW, readReasons, type Reason } from './reasons.js';
import { Ranking, checkRequest, type RecommendRequest } from './ranking.js';

const NO_ROWS = new Uint32Array(0);

/** Numbers before the factors of a packed preview, and of one of its metrics. */
const [PREVIEW_HEAD, METRICS] = [10, 7];

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

const LEARNED: readonly Learned[] = ['applied', 'duplicate', 'context'];

/** One person's state. Many may share one model. */
export class User {
  readonly #handle: Handle;

  constructor(restored?: Uint8Array) {
    this.#handle = new Handle(core.userFree, () => (restored === undefined ? core.userNew() : core.userFromBytes(restored)));
  }

  /** Restores what `toBytes` gave. Throws `state.*` if it cannot. */
  static fromBytes(bytes: Uint8Array): User {
    return new User(bytes);
  }

  /** The state as bytes, the outbox with its ids included. */
  toBytes(): Uint8Array {
    return this.#use((user) => core.userToBytes(user));
  }

  /** Checks an event without learning from it. Throws `event.*`. */
  static check(event: Event, nowMs: number): void {
    const fields = checkEvent(event, nowMs);
    guarded(() => core.checkEvent(...fields));
  }

  /** Learns from one event; throws `event.*`. Where the person does not share, no delta will carry it. */
  learn(model: Model, event: Event, nowMs: number = Date.now(), shares = true): Learned {
    const fields = checkEvent(event, nowMs);
    return LEARNED[this.#use((user) => core.userLearn(user, model.number, ...fields, shares))] as Learned;
  }

  /** Takes the head of a list that another copy of this state showed for the one shown last. */
  wasShown(model: Model, version: number, rows: Uint32Array): void {
    checkNumber(version, 'version');
    this.#use((user) => core.userWasShown(user, model.number, version, rows));
  }

  /** The person's list. Throws `recommend.*` where the request is none. */
  recommend(model: Model, request: RecommendRequest = {}): Ranking {
    const { count, scenario, allow, deny, diversity, explore, seed, shown } = checkRequest(request);
    const rows = (given: RecommendRequest['deny']) => given && model.rowsOf(given);
    const continues = scenario === 'continue';
    const [allowed, denied] = [rows(allow), rows(deny) ?? NO_ROWS];
    const list = this.#use((user) =>
      core.userRecommend(user, model.number, count, continues, allowed, denied, diversity, explore, seed, shown),
    );
    return new Ranking(list, model);
  }

  /** Why each item of a list is in it: the two parts of the score that weigh most. */
  explain(model: Model, rows: Uint32Array, scenario: RecommendRequest['scenario'] = 'discover'): Reason[][] {
    const packed = this.#use((user) => core.userExplain(user, model.number, scenario === 'continue', rows));
    return readReasons(packed, (row) => model.itemId(row));
  }

  /** Whether a delta should go out now: 20 events, or something new and a minute idle. */
  deltaDue(nowMs: number = Date.now()): boolean {
    checkNumber(nowMs, 'nowMs');
    return this.#use((user) => core.userDeltaDue(user, nowMs));
  }

  /**
   * Moves what was learnt since the last delta into the outbox, under a random id of 16 bytes.
   * Returns false if there is nothing new. Store `toBytes()` before the first send. A delta that may have
   * been sent under this id before is given the version `base` that it was based on then.
   */
  takeDelta(model: Model, id: Uint8Array = randomId(), base?: number): boolean {
    if (base !== undefined) checkNumber(base, 'base', 'delta');
    return this.#use((user) => core.userTakeDelta(user, model.number, id, base));
  }

  /** What `takeDelta` would move, or null; changes nothing. */
  previewDelta(model: Model): DeltaPreview | null {
    const packed = this.#use((user) => core.userPreviewDelta(user, model.number));
    if (!packed) return null;
    const [bytes, factors, items, metrics] = [4, 7, 8, 9].map((at) => packed[at] as number) as [number, number, number, number];
    const itemsAt = PREVIEW_HEAD + factors;
    const metricsAt = itemsAt + 2 * items;
    return {
      lineage: digits(whole(packed, 0)),
      baseVersion: Number(whole(packed, 2)),
      bytes,
      share: float(packed, 5),
      factorScale: float(packed, 6),
      factor: Int8Array.from(packed.subarray(PREVIEW_HEAD, itemsAt)),
      items: records(packed.subarray(itemsAt, metricsAt), 2, ([row = 0, kind = 0]) => ({
        itemId: model.itemId(row),
        row,
        kind: KINDS[kind & 0xff] as string,
        startsSession: kind > 0xff,
      })),
      metrics: records(packed.subarray(metricsAt, metricsAt + METRICS * metrics), METRICS, (record) => ({
        version: Number(whole(record, 0)),
        bins: Array.from(record.subarray(2)),
      })),
    };
  }

  /** Drops the events that are in no delta yet, and the outbox: nothing of it will ever be sent. */
  discardDeltas(): void {
    this.#use((user) => core.userDiscardDeltas(user));
  }

  /** The deltas that wait for an acknowledgement. */
  outbox(): OutboxEntry[] {
    return records(this.#use((user) => core.userOutbox(user)), 6, (record) => ({
      id: hex(new Uint8Array(record.buffer, record.byteOffset, 16)),
      bytes: record[4] as number,
      items: record[5] as number,
    }));
  }

  /** The body of a sync: the oldest deltas of the outbox, up to what one body may hold. */
  encodeSync(site: string, token: Uint8Array): Uint8Array {
    return this.#use((user) => core.userEncodeSync(user, site, token));
  }

  /** Takes a sync's answer: what is acknowledged, doubled or refused leaves the outbox. */
  settle(reply: Uint8Array): SyncAnswer {
    const [head = '', ...lines] = this.#use((user) => core.userSettle(user, reply)).split('\n');
    const [lineage = '', version] = head.split(' ');
    const results = lines.map((line): Settled => {
      const [id = '', outcome] = line.split(' ');
      if (outcome === 'acknowledged' || outcome === 'duplicate') return { id, outcome };
      return { id, outcome: 'refused', ...(outcome && { reason: outcome }) };
    });
    return { results, lineage, version: Number(version) };
  }

  /** The history, newest last. */
  history(model: Model): HistoryEntry[] {
    return records(this.#use((user) => core.userHistory(user, model.number)), 6, (record) => {
      const [row, kind] = [record[2] as number, KINDS[record[3] as number] as string];
      const itemId = row === NO_ROW ? {} : { itemId: model.itemId(row) };
      return { key: digits(whole(record, 0)), ...itemId, kind, timeMs: Number(whole(record, 4)) };
    });
  }

  /** How well the lists foresaw what was chosen. */
  quality(): Quality {
    const bins = Array.from(this.#use((user) => core.userQuality(user)));
    return { bins, total: bins.reduce((sum, count) => sum + count, 0) };
  }

  /** Events that are in no delta yet. */
  get unsent(): number {
    return this.#use((user) => core.userUnsent(user));
  }

  /** Events in the history. */
  get length(): number {
    return this.#use((user) => core.userLength(user));
  }

  #use<T>(call: (user: number) => T): T {
    return this.#handle.use(call);
  }

  /** Gives the memory back at once; the user must not be used after. */
  free(): void {
    this.#handle.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/** 128 random bits from the browser's generator: the name of a delta. */
export function randomId(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(16));
}
