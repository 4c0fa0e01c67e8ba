// A pack on its way into the core: each piece goes to its place there, so that the core never holds it twice.

import * as core from '../../pkg/nearfield.js';

/** Bytes that cross at once: a choice, small beside a pack and large beside the cost of a call. */
const PIECE = 1 << 18;

/** Begins a pack, gives the core all of it, and gives what `finish` makes of it. */
export function take(pack: Uint8Array, begin: () => number, finish: (arriving: number) => number): number {
  const arriving = begin();
  try {
    for (let at = 0; at < pack.length; at += PIECE) core.packPush(arriving, pack.subarray(at, at + PIECE));
    return finish(arriving);
  } finally {
    core.packFree(arriving);
  }
}
