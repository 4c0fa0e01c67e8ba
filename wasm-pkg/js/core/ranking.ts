// Lists: what is asked for, and what comes back.

/** Gives the operator's id of a row. */
export interface ItemIds {
  itemId(row: number): string;
}

/** A list, best first, as it comes from the core: row and score of each item. */
export class Ranking {
  /** Rows of the items in the model. */
  readonly rows: Uint32Array;
  /** Scores, larger is better; comparable within one list only. */
  readonly scores: Float32Array;
  readonly #ids: ItemIds;

  /** @internal */
  constructor(packed: Uint32Array, ids: ItemIds) {
    // One array crosses from the core: the rows, then the scores' bits.
    const length = packed.length / 2;
    this.rows = packed.subarray(0, length);
    this.scores = new Float32Array(packed.buffer, packed.byteOffset + length * 4, length);
    this.#ids = ids;
  }

  /** Number of items. */
  get length(): number {
    return this.rows.length;
  }

  /** The operator's ids, decoded when asked for. */
  itemIds(): string[] {
    return Array.from(this.rows, (row) => this.#ids.itemId(row));
  }

  /** The list as objects. */
  items(): Recommendation[] {
    return Array.from(this.rows, (row, index) => ({
      item_id: this.#ids.itemId(row),
      score: this.scores[index] as number,
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
   * `continue` ranks it too, to continue where one was or to buy again.
   */
  scenario?: 'discover' | 'continue';
  /** Only these items, where given: ids, or rows. Unknown ids are ignored. */
  allow?: readonly string[] | Uint32Array;
  /** Not these items: ids, or rows. */
  deny?: readonly string[] | Uint32Array;
}
