/** A bundle's folder that a person picked in a browser. */

import { EdgeError, firstLine } from "../errors.js";
import type { BundleSource } from "../source.js";

/**
 * Return the source of a picked folder.
 *
 * @param files - What `<input type="file" webkitdirectory>` gives: the folder's files, each with a
 *   `webkitRelativePath` that begins with the folder's name.
 */
export function picked(files: Iterable<File>): BundleSource {
  return new Picked([...files]);
}

class Picked implements BundleSource {
  readonly name: string;
  readonly #files: Map<string, File>;

  constructor(files: readonly File[]) {
    const paths = files.map((file) => file.webkitRelativePath || file.name);
    this.name = paths[0]?.split("/", 1)[0] ?? "nothing picked";
    this.#files = new Map(
      files.map((file, place) => [(paths[place] ?? "").split("/").slice(1).join("/"), file]),
    );
  }

  async read(file: string, limit: number): Promise<Uint8Array> {
    const found = this.#find(file);
    if (found.size > limit) {
      const line = `${this.name}/${file}: found ${found.size} bytes, expected at most ${limit}`;
      throw new EdgeError("damaged", line);
    }
    try {
      return new Uint8Array(await found.arrayBuffer());
    } catch (error) {
      const line = `${this.name}/${file}: cannot be read: ${firstLine(error)}`;
      throw new EdgeError("runtime", line, error);
    }
  }

  #find(file: string): File {
    const found = this.#files.get(file);
    if (found) return found;
    throw new EdgeError(
      "not_found",
      `${this.name}/${file}: found no such file, expected a bundle's`,
    );
  }
}
