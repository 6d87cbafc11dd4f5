/** A bundle in the file system of a phone, read by whatever library the app has for it. */

import { EdgeError, firstLine } from "../errors.js";
import type { BundleSource, FileStat } from "../source.js";

/** What this package needs of a library for files; the README shows it for two of them. */
export interface NativeFiles {
  /** Return a file's bytes. */
  read(path: string): Promise<Uint8Array>;
  /** Return a file's size in bytes and its time of change; throw where there is none. */
  stat(path: string): Promise<{ readonly size: number; readonly modified: number | string }>;
  /** Return a file's sha256 in hex; left out, it is computed in JavaScript, which takes seconds. */
  sha256?(path: string): Promise<string>;
  /** Remember text under a key for the app's next start; left out, every start hashes. */
  remember?: {
    get(key: string): Promise<string | null>;
    set(key: string, value: string): Promise<void>;
  };
}

/**
 * Return the source of a bundle's folder on a phone; onnxruntime opens the model by its path.
 *
 * @param path - The folder, in the form that onnxruntime-react-native opens: without `file://`.
 * @param files - Reads, and tells sizes.
 */
export function nativeFolder(path: string, files: NativeFiles): BundleSource {
  return new Native(path.replace(/\/+$/, ""), files);
}

class Native implements BundleSource {
  readonly sha256?: (file: string) => Promise<string>;
  readonly wasChecked?: (files: readonly string[]) => Promise<boolean>;
  readonly rememberChecked?: (files: readonly string[]) => Promise<void>;

  constructor(
    readonly name: string,
    private readonly files: NativeFiles,
  ) {
    if (files.sha256) {
      this.sha256 = async (file) => {
        const found = await this.#reading(file, (path) => files.sha256?.(path) ?? Promise.reject());
        return found.toLowerCase();
      };
    }
    const { remember } = files;
    if (remember) {
      this.wasChecked = async (lines) => (await remember.get(this.#key)) === lines.join("\n");
      this.rememberChecked = (lines) => remember.set(this.#key, lines.join("\n")).catch(() => {});
    }
  }

  get #key(): string {
    return `edge-lra checked ${this.name}`;
  }

  async read(file: string, limit: number): Promise<Uint8Array> {
    const { size } = await this.stat(file);
    if (size > limit) {
      const line = `${this.path(file)}: found ${size} bytes, expected at most ${limit}`;
      throw new EdgeError("damaged", line);
    }
    return this.#reading(file, (path) => this.files.read(path));
  }

  async stat(file: string): Promise<FileStat> {
    const path = this.path(file);
    try {
      const { size, modified } = await this.files.stat(path);
      return { size, identity: String(modified) };
    } catch (error) {
      const line = `${path}: found no such file, expected a bundle's: ${firstLine(error)}`;
      throw new EdgeError("not_found", line, error);
    }
  }

  path(file: string): string {
    return `${this.name}/${file}`;
  }

  async #reading<T>(file: string, action: (path: string) => Promise<T>): Promise<T> {
    const path = this.path(file);
    try {
      return await action(path);
    } catch (error) {
      throw new EdgeError("runtime", `${path}: cannot be read: ${firstLine(error)}`, error);
    }
  }
}
