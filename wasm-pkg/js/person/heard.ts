// Which events of which tab a stored state holds.

import { decodeJson, encodeJson } from '../storage/json.js';

/** The number of the last event by tab; the tab that was heard last comes last. */
export type Heard = Map<string, number>;

// A choice: a tab that was closed long ago has nothing more to say.
const TABS_MAX = 256;

/** Notes that the state holds a tab's events up to `number`. */
export function hear(heard: Heard, tab: string, number: number): void {
  heard.delete(tab);
  heard.set(tab, number);
}

/** As it is stored, without the tabs that were heard first where there are too many. */
export function encodeHeard(heard: Heard): Uint8Array {
  return encodeJson([...heard].slice(-TABS_MAX));
}

/** As it was stored; nothing where the bytes are none. */
export function decodeHeard(bytes: Uint8Array | undefined): Heard {
  const stored = decodeJson(bytes);
  return new Map(Array.isArray(stored) ? (stored.filter(Array.isArray) as [string, number][]) : []);
}
