// When the background work runs: one round at a time, on a period, when woken, and later and later
// after failures.

import { CentralError, backoffMs } from './central.js';
import { NearfieldError } from '../error.js';

/** What one round is asked to do. */
export interface Round {
  /** Send what is new, though neither 20 events nor the idle time have passed. */
  flush?: boolean;
  /** Look for a newer model. */
  poll?: boolean;
}

/** Runs rounds of background work, each of which gives a report. */
export class BackgroundLoop<Report> {
  readonly #work: (round: Round) => Promise<Report>;
  readonly #failed: (thrown: unknown) => void;
  readonly #everyMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;
  #tail: Promise<unknown> = Promise.resolve();
  #failures = 0;
  #pollAt = 0;
  #stopped = false;
  // Against the monotonic clock: a person who sets the clock must not stop the loop.
  #quietUntil = 0;
  #busyUntil = 0;

  constructor(everyMs: number, work: (round: Round) => Promise<Report>, failed: (thrown: unknown) => void) {
    this.#everyMs = everyMs;
    this.#work = work;
    this.#failed = failed;
  }

  /** Runs a round in the background, in `inMs` at the latest; earlier if one is due anyhow. */
  wake(inMs: number): void {
    if (this.#stopped) return;
    const at = Math.max(performance.now() + inMs, this.#quietUntil);
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => void this.#tick(), Math.min(at - performance.now(), TIMER_MS_MAX));
    // In Node a timer must not keep a finished program alive.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  /** Runs a round after those before it; rejects with what went wrong. */
  run(round: Round): Promise<Report> {
    const done = this.#tail.then(async () => {
      if (this.#stopped) throw new NearfieldError('nearfield.closed', 'this Nearfield is closed');
      const waitMs = this.#busyUntil - performance.now();
      if (waitMs > 0) {
        throw new CentralError('central.busy', `central asked to wait ${Math.ceil(waitMs / 1000)} s more`, {
          retryAfterMs: waitMs,
        });
      }
      try {
        const report = await this.#work(round);
        this.#failures = 0;
        this.#quietUntil = 0;
        return report;
      } catch (thrown) {
        this.#backOff(thrown);
        throw thrown;
      }
    });
    this.#tail = done.catch(() => undefined);
    return done;
  }

  /** Ends the background work; a round under way runs to its end. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#tail;
  }

  async #tick(): Promise<void> {
    this.#timerAt = Infinity;
    const now = performance.now();
    // A failure since the timer was set asks for quiet, and for long waits the timer fires early.
    if (now < this.#quietUntil) return this.wake(0);
    const poll = this.#everyMs > 0 && now >= this.#pollAt;
    if (poll) this.#pollAt = now + this.#everyMs;
    try {
      await this.run({ poll });
    } catch (thrown) {
      if (this.#stopped) return;
      this.#failed(thrown);
    }
    if (this.#everyMs > 0) this.wake(Math.max(this.#pollAt - performance.now(), 0));
  }

  #backOff(thrown: unknown): void {
    this.#failures += 1;
    const now = performance.now();
    this.#quietUntil = now + backoffMs(this.#failures);
    if (thrown instanceof CentralError && thrown.retryAfterMs !== undefined) {
      this.#busyUntil = now + thrown.retryAfterMs;
      this.#quietUntil = Math.max(this.#quietUntil, this.#busyUntil);
    }
    // What failed is tried again as soon as that is allowed, the poll included.
    this.#pollAt = Math.min(this.#pollAt, this.#quietUntil);
    this.wake(0);
  }
}

// setTimeout fires at once above 2^31 - 1.
const TIMER_MS_MAX = 2_147_483_647;
