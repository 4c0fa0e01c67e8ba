// Model, user and manifest of the core, with types and errors of our own: for workers, edge
// functions and simulations that keep many users beside one model.

import { raw, type RawManifest, type RawModel, type RawUser } from './binding.js';
import { guarded } from './error.js';
import { toEvents, type Event, type TrackParameters } from './events.js';

/** A list, best first, as it comes from the core: row and score of each item. */
export class Ranking {
  /** Rows of the items in the model. */
  readonly rows: Uint32Array;
  /** Scores, larger is better; comparable within one list only. */
  readonly scores: Float32Array;
  readonly #model: Model;

  /** @internal */
  constructor(packed: Uint32Array, model: Model) {
    // One array crosses from the core: the rows, then the scores' bits.
    const length = packed.length / 2;
    this.rows = packed.subarray(0, length);
    this.scores = new Float32Array(packed.buffer, packed.byteOffset + length * 4, length);
    this.#model = model;
  }

  /** Number of items. */
  get length(): number {
    return this.rows.length;
  }

  /** The operator's ids, decoded when asked for. */
  itemIds(): string[] {
    return Array.from(this.rows, (row) => this.#model.itemId(row));
  }

  /** The list as objects. */
  items(): Recommendation[] {
    return Array.from(this.rows, (row, place) => ({
      item_id: this.#model.itemId(row),
      score: this.scores[place] as number,
      row,
    }));
  }
}

/** One item of a list. */
export interface Recommendation {
  /** The operator's id. */
  item_id: string;
  /** Larger is better; comparable within one list only. */
  score: number;
  /** The item's row in the model's lineage. */
  row: number;
}

/** What list is wanted. */
export interface RecommendRequest {
  /** Length of the list, up to 1000 (default 20). */
  count?: number;
  /**
   * What the list is for: `discover` leaves out what the person's history holds (default);
   * `continue` ranks it too, to go on where one was or to buy again.
   */
  scenario?: 'discover' | 'continue';
  /** Only these items, where given: ids, or rows. Unknown ids are passed over. */
  allow?: readonly string[] | Uint32Array;
  /** Not these items: ids, or rows. */
  deny?: readonly string[] | Uint32Array;
}

/** The shared model: the same bytes for everyone. Free it, or leave it to the collector. */
export class Model {
  /** @internal */
  readonly raw: RawModel;
  #ids = new Map<number, string>();
  #idsOf = '';

  private constructor(loaded: RawModel) {
    this.raw = loaded;
  }

  /** Reads a pack. Throws `pack.*` and keeps nothing when the bytes are not a whole pack. */
  static load(pack: Uint8Array): Model {
    return new Model(guarded(() => raw().Model.load(pack)));
  }

  /** The lineage: row numbers and factors of another one mean something else. */
  get lineage(): string {
    return this.raw.lineage;
  }

  /** The version; it only rises. */
  get version(): number {
    return this.raw.version;
  }

  /** Rows of the catalogue, withdrawn ones included. */
  get length(): number {
    return this.raw.length;
  }

  /** Factors an item. */
  get dim(): number {
    return this.raw.dim;
  }

  /** Brings the model to the next version. Throws `patch.*` and changes nothing if it does not fit. */
  apply(patch: Uint8Array): void {
    guarded(() => this.raw.apply(patch));
  }

  /** The model as a pack. */
  toPack(): Uint8Array {
    return this.raw.toPack();
  }

  /** The row of an item, if the catalogue has it. */
  row(item_id: string): number | undefined {
    return this.raw.row(item_id);
  }

  /** The operator's id of a row; throws `model.unknown_row` if there is none. */
  itemId(row: number): string {
    const lineage = this.lineage;
    if (this.#idsOf !== lineage) {
      this.#ids.clear();
      this.#idsOf = lineage;
    }
    // A row keeps its id within a lineage, so an id crosses from the core once.
    let id = this.#ids.get(row);
    if (id === undefined) {
      id = guarded(() => this.raw.itemId(row));
      this.#ids.set(row, id);
    }
    return id;
  }

  /** Whether the operator has withdrawn the row's item. */
  isWithdrawn(row: number): boolean {
    return guarded(() => this.raw.isWithdrawn(row));
  }

  /** The most popular items. */
  popular(count = 20): Ranking {
    return new Ranking(this.raw.popular(count), this);
  }

  /** The items most like this one; none if the catalogue has not got it. */
  similar(item_id: string, count = 20): Ranking {
    const row = this.row(item_id);
    return new Ranking(row === undefined ? new Uint32Array(0) : this.raw.similar(row, count), this);
  }

  /** @internal Rows of ids or rows; what the catalogue has not got is passed over. */
  rowsOf(given: readonly string[] | Uint32Array): Uint32Array {
    if (given instanceof Uint32Array) return given;
    return Uint32Array.from(given.map((id) => this.row(id)).filter((row) => row !== undefined));
  }

  /** Gives the memory back at once; the model must not be used after. */
  free(): void {
    this.raw.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/** What `track` did. */
export interface Tracked {
  /** Events that were learnt. */
  applied: number;
  /** Events whose id had been counted before. */
  duplicate: number;
  /** Events that are context only: impressions and searches. */
  context: number;
}

/** One entry of the history on the device. */
export interface HistoryEntry {
  /** The item's stable key, in hexadecimal. */
  key: string;
  /** The operator's id, if the model knows the item. */
  item_id?: string;
  kind: string;
  time_ms: number;
}

/** What a delta says: everything that leaves the device. */
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
  items: { item_id: string; row: number; kind: string; starts_session: boolean }[];
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
  /** Choices by the place the item had in the list before: 1, 2–5, 6–10, 11–20, beyond. */
  bins: number[];
  /** All choices counted. */
  total: number;
}

/** One person's state. Many may share one model. */
export class User {
  readonly #raw: RawUser;

  constructor(restored?: Uint8Array) {
    this.#raw = restored === undefined ? new (raw().User)() : guarded(() => raw().User.fromBytes(restored));
  }

  /** Restores what `toBytes` gave. Throws `state.*` if it cannot. */
  static fromBytes(bytes: Uint8Array): User {
    return new User(bytes);
  }

  /** The state as bytes, the outbox with its ids included. */
  toBytes(): Uint8Array {
    return this.#raw.toBytes();
  }

  /**
   * Learns from one call of GA4 or plain events; all of its items or, on an error, none.
   *
   * The third argument is an item id or GA4's parameters.
   */
  track(model: Model, kind: string, item: TrackParameters | string, now_ms: number = Date.now()): Tracked {
    return this.learn(model, toEvents(kind, item, now_ms), now_ms);
  }

  /** Learns from events of the core; all of them or, on an error, none. */
  learn(model: Model, events: readonly Event[], now_ms: number): Tracked {
    const arguments_ = (event: Event) =>
      [event.kind, event.item_id, event.time_ms, event.value, event.event_id, event.session_id, now_ms] as const;
    if (events.length > 1) for (const event of events) guarded(() => raw().checkEvent(...arguments_(event)));
    const tracked = { applied: 0, duplicate: 0, context: 0 };
    for (const event of events) {
      tracked[guarded(() => this.#raw.track(model.raw, ...arguments_(event))) as keyof Tracked] += 1;
    }
    return tracked;
  }

  /** The person's list. */
  recommend(model: Model, request: RecommendRequest = {}): Ranking {
    const allow = request.allow && model.rowsOf(request.allow);
    const deny = model.rowsOf(request.deny ?? []);
    const list = guarded(() =>
      this.#raw.recommend(model.raw, request.count ?? 20, request.scenario === 'continue', allow, deny),
    );
    return new Ranking(list, model);
  }

  /** Whether a delta should go out now: 20 events, or something to say and a minute idle. */
  deltaDue(now_ms: number = Date.now()): boolean {
    return this.#raw.deltaDue(now_ms);
  }

  /**
   * Moves what was learnt since the last delta into the outbox, under a random id of 16 bytes.
   * Returns false if there is nothing to say. Store `toBytes()` before the first send.
   */
  takeDelta(model: Model, id: Uint8Array = randomId()): boolean {
    return guarded(() => this.#raw.takeDelta(model.raw, id));
  }

  /** What `takeDelta` would move, or null; changes nothing. */
  previewDelta(model: Model): DeltaPreview | null {
    const preview = this.#raw.previewDelta(model.raw) as Omit<DeltaPreview, 'items'> & {
      items: { row: number; kind: string; starts_session: boolean }[];
    } | null;
    return preview && { ...preview, items: preview.items.map((item) => ({ item_id: model.itemId(item.row), ...item })) };
  }

  /** Forgets what no delta has said yet, and the outbox: nothing of it will ever be sent. */
  discardDeltas(): void {
    guarded(() => this.#raw.discardDeltas());
  }

  /** The deltas that wait for an acknowledgement. */
  outbox(): OutboxEntry[] {
    return this.#raw.outbox() as OutboxEntry[];
  }

  /** The body of a sync: the oldest deltas of the outbox, up to what one body may hold. */
  encodeSync(site: string, token: Uint8Array): Uint8Array {
    return guarded(() => this.#raw.encodeSync(site, token));
  }

  /** Takes a sync's answer: what is acknowledged, doubled or refused leaves the outbox. */
  settle(reply: Uint8Array): SyncAnswer {
    return guarded(() => this.#raw.settle(reply)) as SyncAnswer;
  }

  /** The history, newest last. */
  history(model: Model): HistoryEntry[] {
    return this.#raw.history(model.raw) as HistoryEntry[];
  }

  /** How well the lists foresaw what was chosen. */
  quality(): Quality {
    const bins = Array.from(this.#raw.quality());
    return { bins, total: bins.reduce((sum, count) => sum + count, 0) };
  }

  /** Events in the history. */
  get length(): number {
    return this.#raw.length;
  }

  /** Gives the memory back at once; the user must not be used after. */
  free(): void {
    this.#raw.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/** What a signed manifest offers, and the checks of the files it names. */
export interface Manifest {
  readonly lineage: string;
  readonly version: number;
  /** Bytes of the pack. */
  readonly packBytes: number;
  /** Bytes of the patch from a version, or undefined if none is listed. */
  patchBytes(from: number): number | undefined;
  /** Throws `manifest.length` or `manifest.hash` if the bytes are not the pack. */
  checkPack(pack: Uint8Array): void;
  /** Throws `manifest.length` or `manifest.hash` if the bytes are not the patch. */
  checkPatch(from: number, patch: Uint8Array): void;
  free(): void;
}

/**
 * Verifies a manifest's signature, site, expiry and that it does not go back behind what is held.
 * Throws `manifest.*` if it does not hold. `publicKey` is 64 hexadecimal digits.
 */
export function verifyManifest(
  bytes: Uint8Array,
  publicKey: string,
  site: string,
  held: { lineage: string; version: number } | undefined,
  now_ms: number,
): Manifest {
  const signed: RawManifest = guarded(() =>
    raw().Manifest.verify(bytes, publicKey, site, held?.lineage, held?.version, now_ms),
  );
  return {
    lineage: signed.lineage,
    version: signed.version,
    packBytes: signed.packBytes,
    patchBytes: (from) => signed.patchBytes(from),
    checkPack: (pack) => guarded(() => signed.checkPack(pack)),
    checkPatch: (from, patch) => guarded(() => signed.checkPatch(from, patch)),
    free: () => signed.free(),
  };
}

/** 128 random bits from the browser's generator: the name of a delta. */
export function randomId(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(16));
}
