// Whether central signed a manifest: by the host's WebCrypto, and by a script of our own where that has no
// Ed25519.

import { NearfieldError } from '../error.js';

const MAGIC = [0x4e, 0x46, 0x4d, 0x46];

/** Where the parts of a signed manifest stand: magic and format, the signature, what was signed. */
const [SIGNATURE_AT, MESSAGE_AT] = [6, 70];

/** Throws `manifest.bad_key` or `manifest.bad_signature` where the key's owner did not sign the manifest. */
export async function checkSignature(manifest: Uint8Array, publicKey: string): Promise<void> {
  if (!/^[\da-f]{64}$/i.test(publicKey)) throw new NearfieldError('manifest.bad_key', 'the public key must be 64 hexadecimal digits');
  const key = Uint8Array.from(publicKey.match(/../g) as string[], (byte) => parseInt(byte, 16));
  // The page of a proxy that asks to log in, say.
  if (MAGIC.some((byte, at) => manifest[at] !== byte)) throw new NearfieldError('manifest.foreign', 'these bytes are not a Nearfield manifest');
  const signature = manifest.subarray(SIGNATURE_AT, MESSAGE_AT);
  const message = manifest.subarray(MESSAGE_AT);
  if (!(await verify(key, signature, message))) {
    throw new NearfieldError('manifest.bad_signature', 'the manifest was not signed by the public key that was given');
  }
}

/**
 * The version that a manifest offers, read ahead of the core: so that what it offers may be on its way while the core
 * compiles, which checks all of the manifest before anything of it is used.
 */
export function offeredVersion(manifest: Uint8Array): number {
  let at = MESSAGE_AT;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = manifest[at++] ?? 0;
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  };
  // The site, as its length and its bytes; lineage, and two times.
  const siteBytes = varint();
  at += siteBytes;
  for (let field = 0; field < 3; field += 1) varint();
  return varint();
}

type Bytes = Uint8Array<ArrayBuffer>;

async function verify(key: Bytes, signature: Uint8Array, message: Uint8Array): Promise<boolean> {
  // Pages that came over plain HTTP have no WebCrypto, and browsers before 2025 no Ed25519 in it.
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  const imported = await subtle?.importKey('raw', key, 'Ed25519', false, ['verify']).catch(() => undefined);
  if (subtle && imported) return subtle.verify('Ed25519', imported, signature as Bytes, message as Bytes);
  return (await import('../ed25519.js')).verify(key, signature, message);
}
