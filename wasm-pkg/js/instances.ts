// One instance for each site in a page, however often it is opened.

import { NearfieldError } from './error.js';
import type { OpenOptions } from './options.js';

interface Entry<Instance> {
  opened: Promise<Instance>;
  options: OpenOptions;
  /** How many times it was opened and not closed. */
  uses: number;
  /** Resolves once the last use has ended, while it is ending. */
  ending: Promise<void> | undefined;
}

/** Ends one use of an instance, and closes it with the last. */
export type EndUse = (close: () => Promise<void>) => Promise<void>;

/** The instances of this page by site. */
export class Instances<Instance> {
  readonly #entries = new Map<string, Entry<Instance>>();

  /**
   * Gives the open instance of the site, or what `open` gives where there is none. Each use is to be ended
   * by what `open` is given, which calls `close` with the last one.
   */
  async use(options: OpenOptions, open: (end: EndUse) => Promise<Instance>): Promise<Instance> {
    for (let entry; (entry = this.#entries.get(options.site)); ) {
      if (!entry.ending) return this.#again(entry, options);
      await entry.ending;
    }
    const end: EndUse = (close) => this.#end(options.site, close);
    const entry: Entry<Instance> = { opened: open(end), options, uses: 1, ending: undefined };
    this.#entries.set(options.site, entry);
    entry.opened.catch(() => this.#entries.delete(options.site));
    return entry.opened;
  }

  async #end(site: string, close: () => Promise<void>): Promise<void> {
    const entry = this.#entries.get(site);
    if (!entry) return close();
    entry.uses -= 1;
    if (entry.uses > 0) return;
    entry.ending = close().finally(() => this.#entries.delete(site));
    await entry.ending;
  }

  #again(entry: Entry<Instance>, options: OpenOptions): Promise<Instance> {
    for (const field of ['endpoint', 'publicKey'] as const) {
      if (options[field] !== entry.options[field]) {
        const message = `${options.site} is open in this page with another ${field}`;
        throw new NearfieldError('options.conflict', message, { field });
      }
    }
    entry.uses += 1;
    return entry.opened;
  }
}
