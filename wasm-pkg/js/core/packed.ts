// What the core packs into one array of 32-bit numbers.

/** The number whose halves stand at `at`. */
export function whole(packed: Uint32Array, at: number): bigint {
  return (BigInt(packed[at + 1] as number) << 32n) | BigInt(packed[at] as number);
}

/** The 16 hexadecimal digits by which lineages and keys are written. */
export function digits(number: bigint): string {
  return number.toString(16).padStart(16, '0');
}

/** The float whose bits stand at `at`. */
export function float(packed: Uint32Array, at: number): number {
  return new Float32Array(packed.buffer, packed.byteOffset + at * 4, 1)[0] as number;
}

/** Bytes in hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** What `read` makes of each record of so many numbers. */
export function records<T>(packed: Uint32Array, length: number, read: (record: Uint32Array) => T): T[] {
  return Array.from({ length: packed.length / length }, (_, index) => read(packed.subarray(index * length, (index + 1) * length)));
}
