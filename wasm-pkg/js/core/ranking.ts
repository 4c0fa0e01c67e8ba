// Lists: what is asked for, and what comes back.

import { NearfieldError } from '../error.js';

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
  items(): Ranked[] {
    return Array.from(this.rows, (row, index) => ({
      itemId: this.#ids.itemId(row),
      score: this.scores[index] as number,
      row,
    }));
  }
}

/** One item of a list. */
export interface Ranked {
  /** The operator's id. */
  itemId: string;
  /** Larger is better; comparable within one list only. */
  score: number;
  /** The item's row in the model's lineage. */
  row: number;
}

/** What list is wanted. */
export interface RecommendRequest {
  /** Length of the list, 1 to 1000 (default 20). */
  count?: number;
  /**
   * What the list is for: `discover` leaves out what the person's history holds (default);
   * `continue` ranks it too, to continue where one was or to buy again.
   */
  scenario?: 'discover' | 'continue';
  /** Only these items, where given: ids, or rows. Unknown ids are ignored. */
  allow?: Iterable<string | number> | Uint32Array;
  /** Not these items: ids, or rows. */
  deny?: Iterable<string | number> | Uint32Array;
  /** How much the items differ from one another, 0 (default: the best scores) to 1. */
  diversity?: number;
  /** How much the list explores what the person's taste says little of, 0 (default) to 1. */
  explore?: number;
  /** Seed of the exploration, a whole number below 2³²: the same one gives the same list on every host. */
  seed?: number;
  /** Whether the person sees the list, so that the next choice is counted by its rank in it (default true). */
  shown?: boolean;
}

/** Length of a list where no other is asked for. */
export const COUNT = 20;
const COUNT_MAX = 1000;
const SCENARIOS: readonly unknown[] = ['discover', 'continue'];
const SEED_MAX = 0xffff_ffff;
const FIELDS: readonly string[] = ['count', 'scenario', 'allow', 'deny', 'diversity', 'explore', 'seed', 'shown'];

/** Gives a request with its defaults. Throws `recommend.*` with the `field` where it is none. */
export function checkRequest(request: RecommendRequest) {
  const { count = COUNT, scenario = 'discover', allow, deny, diversity = 0, explore = 0, seed = 0, shown = true } = request;
  const unknown = Object.keys(request).find((field) => !FIELDS.includes(field));
  if (unknown !== undefined) throw refused(unknown, `there is no option ${unknown}, but ${FIELDS.join(', ')}`, undefined, 'recommend.unknown_option');
  checkCount(count);
  if (!SCENARIOS.includes(scenario)) throw refused('scenario', `scenario must be ${SCENARIOS.join(' or ')}`);
  if (!isIds(allow)) throw refused('allow', 'allow must be a list of ids');
  if (!isIds(deny)) throw refused('deny', 'deny must be a list of ids');
  if (!isFraction(diversity)) throw refused('diversity', 'diversity must be a number from 0 to 1', 1);
  if (!isFraction(explore)) throw refused('explore', 'explore must be a number from 0 to 1', 1);
  if (!Number.isInteger(seed) || seed < 0 || seed > SEED_MAX) throw refused('seed', `seed must be a whole number from 0 to ${SEED_MAX}`, SEED_MAX);
  if (typeof shown !== 'boolean') throw refused('shown', 'shown must be true or false');
  return { count, scenario, allow, deny, diversity, explore, seed, shown };
}

/** Throws `recommend.count` where it is no length of a list. */
export function checkCount(count: unknown): void {
  if (Number.isInteger(count) && (count as number) >= 1 && (count as number) <= COUNT_MAX) return;
  throw new NearfieldError('recommend.count', `count must be a whole number from 1 to ${COUNT_MAX}`, { field: 'count', limit: COUNT_MAX });
}

/** A string is iterable, too, and a list of letters is never meant. */
function isIds(given: unknown): boolean {
  return given === undefined || (typeof given === 'object' && given !== null && Symbol.iterator in given);
}

function isFraction(given: unknown): boolean {
  return typeof given === 'number' && given >= 0 && given <= 1;
}

function refused(field: string, message: string, limit?: number, code = `recommend.${field}`): NearfieldError {
  return new NearfieldError(code, message, { field, ...(limit !== undefined && { limit }) });
}
