// Writes to storage one after another, and joins those that wait.

/** Does one kind of write, never two at once. */
export class WriteQueue {
  readonly #write: (durable: boolean) => Promise<void>;
  #tail: Promise<unknown> = Promise.resolve();
  /** The write that has not begun, which takes along what is asked for meanwhile. */
  #next: { durable: boolean; done: Promise<void> } | undefined;

  /** `write` reads what is to be written at the moment at which it is called. */
  constructor(write: (durable: boolean) => Promise<void>) {
    this.#write = write;
  }

  /** Resolves once what is there now is written; rejects if it could not be. */
  save(durable = false): Promise<void> {
    if (this.#next) {
      this.#next.durable ||= durable;
      return this.#next.done;
    }
    const next = { durable, done: Promise.resolve() };
    next.done = this.run(() => {
      if (this.#next === next) this.#next = undefined;
      return this.#write(next.durable);
    });
    this.#next = next;
    return next.done;
  }

  /** Runs `work` after all that was asked for before, and before all that comes after. */
  run<T>(work: () => Promise<T>): Promise<T> {
    this.#next = undefined;
    const done = this.#tail.then(work);
    this.#tail = done.catch(() => undefined);
    return done;
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    for (let seen; seen !== this.#tail; ) {
      seen = this.#tail;
      await seen;
    }
  }
}
