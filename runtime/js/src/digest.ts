/** sha256 by the platform, else in JavaScript. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

/**
 * Return the sha256 of bytes in hex.
 *
 * A page that a phone opens over plain http is no secure context and has no `crypto.subtle`, and
 * React Native has none at all: they hash in JavaScript (24 MB in 1.2 s in Node on a busy machine,
 * 0.2 s by the platform).
 */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return bytesToHex(sha256(bytes));
  return bytesToHex(new Uint8Array(await subtle.digest("SHA-256", bytes as BufferSource)));
}
