// Bytes that come piece by piece, so that no copy of all of them is held.

/** Reads a stream. Browsers do not all let one be iterated. */
export async function* read(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** Gives the pieces of what is stored as one. */
export async function* piecesOf(bytes: Uint8Array | Blob): AsyncGenerator<Uint8Array> {
  if (bytes instanceof Uint8Array) yield bytes;
  else yield* read(bytes.stream());
}

/** Bytes that wait to be a blob: a browser keeps those of a blob outside the page. */
const GATHERED = 1 << 22;

/** Passes pieces on, and gathers them as a blob. */
export class Gathering {
  /** All that was passed on. */
  blob = new Blob();
  #pieces: BlobPart[] = [];
  #waiting = 0;

  async *pass(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of pieces) {
      this.#pieces.push(piece as Uint8Array<ArrayBuffer>);
      this.#waiting += piece.length;
      if (this.#waiting >= GATHERED) this.#gather();
      yield piece;
    }
    this.#gather();
  }

  #gather(): void {
    this.blob = new Blob([this.blob, ...this.#pieces]);
    this.#pieces = [];
    this.#waiting = 0;
  }
}
