// Why an item is in a list, as data and in words.

import { KINDS } from './event.js';

/** A part of the score, and what it says in words. */
export type Part =
  /** The person's taste: "because you viewed …". */
  | 'taste'
  /** Likeness to what the person did last: "like …, which you viewed last". */
  | 'last'
  /** "popular now". */
  | 'popular'
  /** What people choose next to an item of the person's: "often next to …". */
  | 'next'
  /** The person's own return: "you come back to it". */
  | 'own';

/** One reason for an item. */
export interface Reason {
  part: Part;
  /** Its share of all that speaks for the item, 0 to 1. */
  share: number;
  /** The item and the kind of the person's event behind it, where it is one event. */
  itemId?: string;
  kind?: string;
  /** In words, with the item's id; a page that has names or another language makes its own. */
  text: string;
}

// As the core numbers them.
const PARTS: readonly Part[] = ['taste', 'last', 'popular', 'next', 'own'];
/** Stands for a row where there is none. */
export const NO_ROW = 0xffff_ffff;

/** Numbers of one reason in what the core packs. */
const WORDS = 4;
const REASONS = 2;

/** Gives the reasons of each row from what the core packed. */
export function readReasons(packed: Uint32Array, itemId: (row: number) => string): Reason[][] {
  const shares = new Float32Array(packed.buffer, packed.byteOffset, packed.length);
  return Array.from({ length: packed.length / (WORDS * REASONS) }, (_, item) => {
    const reasons: Reason[] = [];
    for (let reason = 0; reason < REASONS; reason += 1) {
      const at = (item * REASONS + reason) * WORDS;
      const [part, kind, row] = [PARTS[packed[at] as number], KINDS[packed[at + 1] as number], packed[at + 2] as number];
      if (part === undefined) continue;
      const because = row === NO_ROW || kind === undefined ? {} : { itemId: itemId(row), kind };
      reasons.push({ part, share: shares[at + 3] as number, ...because, text: inWords(part, because) });
    }
    return reasons;
  });
}

const DID: Readonly<Record<string, string>> = { view: 'viewed', click: 'chose', cart: 'put in your cart', purchase: 'bought' };

function inWords(part: Part, { itemId, kind }: { itemId?: string; kind?: string }): string {
  const did = DID[kind ?? ''] ?? 'know';
  switch (part) {
    case 'taste':
      return itemId === undefined ? 'fits your taste' : `because you ${did} ${itemId}`;
    case 'last':
      return itemId === undefined ? 'like what you saw last' : `like ${itemId}, which you ${did} last`;
    case 'popular':
      return 'popular now';
    case 'next':
      return itemId === undefined ? 'often next to what you know' : `often next to ${itemId}`;
    case 'own':
      return 'you come back to it';
  }
}
