/** A bundle below a URL, as a static server has it. */

import { EdgeError, firstLine } from "../errors.js";
import type { BundleSource } from "../source.js";

/** Options of `url`. */
export interface UrlOptions {
  /** What fetches; by default the platform's `fetch`. */
  readonly fetch?: (url: string) => Promise<Response>;
}

/**
 * Return the source of a bundle below a URL.
 *
 * Only files that are needed are fetched, when they are: an adapter at its first use, the golden
 * cases for `checkGolden`. Each is hashed from the bytes that are used.
 *
 * @param base - The folder's URL; relative to the page, in a browser.
 */
export function url(base: string | URL, options: UrlOptions = {}): BundleSource {
  return new Remote(String(base), options.fetch ?? ((address) => fetch(address)));
}

class Remote implements BundleSource {
  readonly name: string;
  readonly #fetch: (url: string) => Promise<Response>;

  constructor(base: string, fetcher: (url: string) => Promise<Response>) {
    this.name = base.replace(/\/+$/, "");
    this.#fetch = fetcher;
  }

  async read(file: string, limit: number): Promise<Uint8Array> {
    const address = `${this.name}/${file.split("/").map(encodeURIComponent).join("/")}`;
    const response = await this.#get(address);
    if (response.status === 404 || response.status === 410) {
      throw new EdgeError("not_found", `${address}: found no such file, expected a bundle's`);
    }
    if (!response.ok) {
      throw new EdgeError(
        "runtime",
        `${address}: found HTTP status ${response.status}, expected 200`,
      );
    }
    try {
      return await readAtMost(response, limit, address);
    } catch (error) {
      if (error instanceof EdgeError) throw error;
      throw new EdgeError("runtime", `${address}: broke off: ${firstLine(error)}`, error);
    }
  }

  async #get(address: string): Promise<Response> {
    try {
      return await this.#fetch(address);
    } catch (error) {
      const line = `${address}: cannot be fetched: ${firstLine(error)}`;
      throw new EdgeError("runtime", line, error);
    }
  }
}

/** Return a response's body; give up as soon as it is larger than expected. */
async function readAtMost(response: Response, limit: number, address: string): Promise<Uint8Array> {
  if (!response.body) return new Uint8Array(await response.arrayBuffer());
  const reader = response.body.getReader();
  const blocks: Uint8Array[] = [];
  let size = 0;
  for (let block = await reader.read(); !block.done; block = await reader.read()) {
    size += block.value.byteLength;
    if (size > limit) {
      await reader.cancel();
      throw new EdgeError(
        "damaged",
        `${address}: found more than ${limit} bytes, expected at most these`,
      );
    }
    blocks.push(block.value);
  }
  return joined(blocks, size);
}

function joined(blocks: readonly Uint8Array[], size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let place = 0;
  for (const block of blocks) {
    bytes.set(block, place);
    place += block.byteLength;
  }
  return bytes;
}
