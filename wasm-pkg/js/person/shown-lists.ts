// The lists that were shown in this page, by the id that their items carry.

import { hex } from '../core/packed.js';
import type { ShownList } from './replica.js';

// A choice: more lists than a page shows at a time, and not a log.
const LISTS_MAX = 100;

/** The newest lists that were shown. */
export class ShownLists {
  readonly #lists = new Map<string, ShownList>();

  /** Keeps a list and gives its id. */
  add(list: ShownList): string {
    const id = hex(crypto.getRandomValues(new Uint8Array(8)));
    this.#lists.set(id, list);
    for (const oldest of this.#lists.keys()) {
      if (this.#lists.size <= LISTS_MAX) break;
      this.#lists.delete(oldest);
    }
    return id;
  }

  /** Takes a list out: a choice is counted once. */
  take(id: string): ShownList | undefined {
    const list = this.#lists.get(id);
    this.#lists.delete(id);
    return list;
  }
}
