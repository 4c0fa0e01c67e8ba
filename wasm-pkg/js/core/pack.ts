// A pack on its way into the core: each piece goes to its place there, so that the core never holds it twice.

import * as core from '../../pkg/nearfield.js';
import { Handle } from './handle.js';

/** Bytes that cross at once: a choice, small beside a pack and large beside the cost of a call. */
const PIECE = 1 << 18;

/** Makes a model of what has arrived, which the core calls by its number, and gives the model's number. */
type Finish = (arriving: number) => number;

/** Gives the core all of a pack, and gives the number of what `finish` makes of it. */
export function take(pack: Uint8Array, begin: () => number, finish: Finish): number {
  const arriving = new Handle(core.packFree, begin);
  try {
    push(arriving, pack);
    return finish(arriving.number);
  } finally {
    arriving.free();
  }
}

/** Gives the core each piece of a pack as it comes, and gives what `made` makes of the finished one. */
export async function receive<T>(pieces: AsyncIterable<Uint8Array>, begin: () => number, finish: Finish, made: (make: () => number) => T): Promise<T> {
  const arriving = new Handle(core.packFree, begin);
  try {
    for await (const piece of pieces) push(arriving, piece);
    return made(() => finish(arriving.number));
  } finally {
    arriving.free();
  }
}

function push(arriving: Handle, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += PIECE) arriving.use((pack) => core.packPush(pack, bytes.subarray(at, at + PIECE)));
}
