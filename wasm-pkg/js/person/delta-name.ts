// The name of the delta to come, kept beside the state before anything is sent under it.

/**
 * A random id, with the model that a delta under it is based on: central remembers an id with its base
 * version, so whatever goes out under this id must name this version.
 */
export interface DeltaName {
  readonly id: Uint8Array;
  readonly lineage: string;
  readonly version: number;
}

const ID_BYTES = 16;
const NAME_BYTES = ID_BYTES + 8 + 8;

/** A name as it is stored: the id, then lineage and version as big-endian 64-bit numbers. */
export function encodeName({ id, lineage, version }: DeltaName): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES);
  bytes.set(id);
  const numbers = new DataView(bytes.buffer);
  numbers.setBigUint64(ID_BYTES, BigInt(`0x${lineage}`));
  numbers.setBigUint64(ID_BYTES + 8, BigInt(version));
  return bytes;
}

/** A stored name, or undefined where the bytes are none. */
export function decodeName(bytes: Uint8Array | undefined): DeltaName | undefined {
  if (bytes?.length !== NAME_BYTES) return undefined;
  const numbers = new DataView(bytes.buffer, bytes.byteOffset);
  return {
    id: bytes.slice(0, ID_BYTES),
    lineage: numbers.getBigUint64(ID_BYTES).toString(16).padStart(16, '0'),
    version: Number(numbers.getBigUint64(ID_BYTES + 8)),
  };
}
