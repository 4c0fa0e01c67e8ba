// One person's state in this tab: a base that is known, and on top of it what was learnt here.

import type { Event } from '../core/event.js';
import type { Model } from '../core/model.js';
import type { NearfieldError } from '../error.js';
import type { Ranking, RecommendRequest } from '../core/ranking.js';
import { User, type Learned } from '../core/user.js';

/** The head of a list that was shown. */
export interface ShownList {
  lineage: string;
  version: number;
  /** Rows of the first items, best first. */
  rows: number[];
}

/** One event that was learnt in this tab. Messages between tabs carry it. */
export interface Observation {
  /** Counts the events of this tab, from 1. */
  number: number;
  event: Event;
  nowMs: number;
  /** Whether a delta may tell of it. */
  shares: boolean;
  /** The list that had been shown before, and not yet been counted. */
  list?: ShownList;
}

/** As far as a choice's rank is told: the engine counts all beyond as one. */
const SHOWN = 20;

// A choice: as many events as the history holds, so that what is dropped would be no part of it.
const PENDING_MAX = 512;

/**
 * A state that survives its own loss: after a trap of the core, or when another tab's state is taken
 * over, what was learnt here and is not in the base is learnt again on top of it.
 */
export class Replica {
  #user: User;
  #base: Uint8Array;
  /** What is not known to be in storage, oldest first. */
  #pending: Observation[] = [];
  /** The last event that the base holds, and the last one learnt. */
  #baseNumber = 0;
  #number = 0;
  #keptUpTo = 0;
  /** A list that was shown, until the first event after it. */
  #shown: ShownList | undefined;

  constructor(user: User) {
    this.#user = user;
    this.#base = user.toBytes();
  }

  /** The state itself, to read and to make deltas of; `toBytes` must follow what changes it. */
  get user(): User {
    return this.#user;
  }

  /** The number of the last event learnt here. */
  get number(): number {
    return this.#number;
  }

  /** The last event that storage is known to have. */
  get keptUpTo(): number {
    return this.#keptUpTo;
  }

  /** What is not known to be in storage, oldest first. */
  get pending(): readonly Observation[] {
    return this.#pending;
  }

  /** Learns from an event. Throws `event.*` and changes nothing where it is none. */
  learn(model: Model, event: Event, nowMs: number, shares: boolean): Learned {
    const learned = this.#user.learn(model, event, nowMs, shares);
    if (learned === 'applied') this.#learned({ number: (this.#number += 1), event, nowMs, shares });
    return learned;
  }

  /** Keeps an event to be learnt when the core is back. */
  hold(event: Event, nowMs: number, shares: boolean): void {
    this.#learned({ number: (this.#number += 1), event, nowMs, shares });
  }

  /** Learns what another tab has learnt. */
  repeat(model: Model, observation: Observation): void {
    repeat(this.#user, model, observation);
  }

  recommend(model: Model, request: RecommendRequest): Ranking {
    const list = this.#user.recommend(model, request);
    if (request.shown ?? true) this.#shown = list.length > 0 ? headOf(model, list) : undefined;
    return list;
  }

  /** Takes a list that was shown before for the one shown last. */
  shownAgain(model: Model, list: ShownList): void {
    show(this.#user, model, list);
    this.#shown = list;
  }

  /** The state as bytes, which are the base from now on. */
  toBytes(): Uint8Array {
    this.#base = this.#user.toBytes();
    this.#baseNumber = this.#number;
    return this.#base;
  }

  /**
   * Takes a state that holds this tab's events up to `heard`, and learns the later ones again. `before` is
   * done to the state before that.
   */
  adopt(model: Model, bytes: Uint8Array, heard: number, before?: () => void): void {
    const user = User.fromBytes(bytes);
    this.#user.free();
    this.#user = user;
    this.#base = bytes;
    this.#baseNumber = heard;
    this.kept(heard);
    if (before) {
      before();
      this.#base = user.toBytes();
    }
    this.#replay(model);
  }

  /** Notes that storage has this tab's events up to `number`. */
  kept(number: number): void {
    this.#keptUpTo = Math.max(this.#keptUpTo, number);
    this.#pending = this.#pending.filter((observation) => observation.number > number);
  }

  /**
   * Makes the state anew, in a core that lost it. Should that trap again, it is made without what was
   * learnt last, and then of nothing.
   */
  rebuild(model: Model, attempt: number): void {
    if (attempt > 1) return this.forget();
    if (attempt > 0) this.#pending = [];
    this.#user = User.fromBytes(this.#base);
    this.#replay(model);
  }

  /** Drops all that was to be sent, of what is known and of what will be learnt again. */
  discardDeltas(): void {
    for (const observation of this.#pending) observation.shares = false;
    this.#user.discardDeltas();
    this.toBytes();
  }

  /** Begins anew with a person of whom nothing is known. */
  forget(): void {
    const old = this.#user;
    this.#user = new User();
    this.kept(this.#number);
    this.#shown = undefined;
    this.toBytes();
    old.free();
  }

  free(): void {
    this.#user.free();
  }

  #learned(observation: Observation): void {
    if (this.#shown) observation.list = this.#shown;
    this.#shown = undefined;
    this.#pending.push(observation);
    if (this.#pending.length < 2 * PENDING_MAX) return;
    this.toBytes();
    this.#pending.splice(0, this.#pending.length - PENDING_MAX);
  }

  #replay(model: Model): void {
    for (const observation of this.#pending) {
      if (observation.number <= this.#baseNumber) continue;
      try {
        repeat(this.#user, model, observation);
      } catch (thrown) {
        // What was held unseen may be no event at all, and teaches nothing.
        if (!/^event\./.test((thrown as NearfieldError).code)) throw thrown;
      }
    }
    if (this.#shown) show(this.#user, model, this.#shown);
  }
}

/** The head of a list, as it is remembered. */
export function headOf({ lineage, version }: Model, { rows }: Ranking): ShownList {
  return { lineage, version, rows: Array.from(rows.subarray(0, SHOWN)) };
}

function repeat(user: User, model: Model, { event, nowMs, shares, list }: Observation): void {
  if (list) show(user, model, list);
  user.learn(model, event, nowMs, shares);
}

function show(user: User, model: Model, { lineage, version, rows }: ShownList): void {
  // Rows of another lineage are other items.
  if (lineage === model.lineage) user.wasShown(model, version, Uint32Array.from(rows));
}
