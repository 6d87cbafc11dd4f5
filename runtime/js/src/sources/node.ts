/** A bundle in a folder of Node's file system. */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readFile, realpath, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join, relative, resolve, sep } from "node:path";
import { EdgeError, firstLine } from "../errors.js";
import type { BundleSource, FileStat } from "../source.js";

/** Options of `folder`. */
export interface FolderOptions {
  /** Where it is remembered which files were hashed; by default the user's cache folder. */
  readonly cache?: string;
}

/**
 * Return the source of a bundle's folder.
 *
 * onnxruntime opens the model by its path and maps the weights; a bundle that Python's runner has
 * checked with the same cache folder is not hashed again.
 */
export function folder(path: string, options: FolderOptions = {}): BundleSource {
  return new Folder(path, options.cache ?? join(userCache(), "edge-lra", "checked"));
}

function userCache(): string {
  return process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
}

class Folder implements BundleSource {
  readonly name: string;
  readonly #root: string;
  readonly #cache: string;

  constructor(path: string, cache: string) {
    this.name = path;
    this.#root = resolve(path);
    this.#cache = cache;
  }

  async read(file: string, limit: number): Promise<Uint8Array> {
    return this.#reading(file, async (path) => {
      const handle = await open(path, "r");
      try {
        const { size } = await handle.stat();
        if (size > limit) {
          throw new EdgeError("damaged", `${path}: found ${size} bytes, expected at most ${limit}`);
        }
        const found = await readFile(handle);
        return new Uint8Array(found.buffer, found.byteOffset, found.byteLength);
      } finally {
        await handle.close();
      }
    });
  }

  async stat(file: string): Promise<FileStat> {
    return this.#reading(file, async (path) => {
      const found = await stat(path, { bigint: true });
      return { size: Number(found.size), identity: `${found.mtimeNs} ${found.ino}` };
    });
  }

  async sha256(file: string): Promise<string> {
    return this.#reading(file, async (path) => {
      const total = createHash("sha256");
      for await (const block of createReadStream(path, { highWaterMark: 1 << 20 })) {
        total.update(block as Uint8Array);
      }
      return total.digest("hex");
    });
  }

  path(file: string): string {
    return join(this.#root, file);
  }

  async wasChecked(files: readonly string[]): Promise<boolean> {
    return stat(await this.#stamp(files)).then(
      () => true,
      () => false,
    );
  }

  async rememberChecked(files: readonly string[]): Promise<void> {
    try {
      await mkdir(this.#cache, { recursive: true });
      await writeFile(await this.#stamp(files), "");
    } catch {
      // A read-only home costs the next load a full check.
    }
  }

  /** Return the file whose name is the identity of all files, as Python's runner names it. */
  async #stamp(files: readonly string[]): Promise<string> {
    const lines = [await realpath(this.#root), ...files];
    return join(this.#cache, createHash("sha256").update(lines.join("\n")).digest("hex"));
  }

  /** Do something with a file's path, links followed, if that is inside the folder. */
  async #reading<T>(file: string, action: (path: string) => Promise<T>): Promise<T> {
    const path = this.path(file);
    try {
      const inside = relative(await realpath(this.#root), await realpath(path));
      if (inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside)) {
        throw new EdgeError("damaged", `${path}: found a link out of the bundle, expected a file`);
      }
      return await action(path);
    } catch (error) {
      if (error instanceof EdgeError) throw error;
      throw readError(error, path);
    }
  }
}

function readError(error: unknown, path: string): EdgeError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT" || code === "ENOTDIR") {
    return new EdgeError(
      "not_found",
      `${path}: found no such file, expected a bundle's; export one`,
      error,
    );
  }
  return new EdgeError("runtime", `${path}: cannot be read: ${firstLine(error)}`, error);
}
