// Listeners, and errors that happened before anybody listened.

import { NearfieldError, asNearfieldError } from './error.js';
import type { SyncReport } from './central/reports.js';

/** The events of `on`, and what their listeners are given. */
export interface NearfieldEvents {
  /** The list may have changed: ask `recommend` again. `tab`: another tab has learnt; `core`: it is back after a trap. */
  recommendations: { reason: 'event' | 'model' | 'forget' | 'consent' | 'tab' | 'core' };
  /** A newer model is in use. */
  model: { lineage: string; version: number; from: number; via: 'patch' | 'pack' | 'tab'; bytes: number };
  /** Central answered deltas. */
  sync: SyncReport;
  /** Something failed in the background; the last good model and state stay in use. */
  error: NearfieldError;
}

// A choice: enough to see what went wrong while opening, not a log.
const UNHEARD_ERRORS_MAX = 20;

/** Calls listeners, and keeps the last errors until one listens. */
export class Emitter {
  readonly #listeners = new Map<keyof NearfieldEvents, Set<(detail: never) => void>>();
  #unheardErrors: NearfieldError[] = [];
  /** How often the list may have changed. */
  revision = 0;

  /** Calls `listener` at every such event, and returns how to stop that. */
  on<Name extends keyof NearfieldEvents>(name: Name, listener: (detail: NearfieldEvents[Name]) => void): () => void {
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener as (detail: never) => void);
    if (name === 'error') {
      // What failed while opening happened before anybody could listen.
      for (const error of this.#unheardErrors.splice(0)) this.emit('error', error);
    }
    return () => void listeners.delete(listener as (detail: never) => void);
  }

  /** Calls the listeners of an event. */
  emit<Name extends keyof NearfieldEvents>(name: Name, detail: NearfieldEvents[Name]): void {
    if (name === 'recommendations') this.revision += 1;
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        (listener as (detail: NearfieldEvents[Name]) => void)(detail);
      } catch (thrown) {
        // A listener's mistake is the page's to see, and not ours to stop for.
        queueMicrotask(() => {
          throw thrown;
        });
      }
    }
  }

  /** Emits what was thrown as an `error` event; `code` names it where it has no code of its own. */
  report(thrown: unknown, code: string): void {
    const error = asNearfieldError(thrown, code);
    if (this.#listeners.get('error')?.size) this.emit('error', error);
    else this.#unheardErrors = [...this.#unheardErrors.slice(1 - UNHEARD_ERRORS_MAX), error];
  }
}
