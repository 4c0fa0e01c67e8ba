// Which events of which tab a stored state holds.

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
  return new TextEncoder().encode(JSON.stringify([...heard].slice(-TABS_MAX)));
}

/** As it was stored; nothing where the bytes are none. */
export function decodeHeard(bytes: Uint8Array | undefined): Heard {
  if (!bytes) return new Map();
  try {
    return new Map(JSON.parse(new TextDecoder().decode(bytes)) as [string, number][]);
  } catch {
    return new Map();
  }
}
