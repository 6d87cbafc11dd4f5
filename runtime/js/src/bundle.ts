/** A bundle: its manifest, and its files as they were exported. */

import { sha256Hex } from "./digest.js";
import { EdgeError } from "./errors.js";
import { type Manifest, readManifest } from "./manifest.js";
import { externalLocations } from "./protobuf.js";
import type { BundleSource } from "./source.js";

/**
 * When files are hashed. `once`: where the source can tell that a file is the one that was hashed
 * before, not again. `never`: neither sizes nor hashes, for a bundle inside the app's own package.
 */
export type Verify = "once" | "always" | "never";
const VERIFY: readonly Verify[] = ["once", "always", "never"];

const MODEL = "model.onnx";
const ORT_MODEL = "model.ort";
/** What onnxruntime takes for an address in memory, even where there is such a file. */
const MEMORY = "*/_ORT_MEM_ADDR_/*";

/** The graph and the files that its weights are in, for `Ort.InferenceSession.create`. */
export interface ModelFiles {
  readonly model: string | Uint8Array;
  readonly external: { path: string; data: Uint8Array }[];
}

/** A bundle that can be read. */
export class Bundle {
  readonly source: BundleSource;
  readonly manifest: Manifest;
  readonly #verify: Verify;

  private constructor(source: BundleSource, manifest: Manifest, verify: Verify) {
    this.source = source;
    this.manifest = manifest;
    this.#verify = verify;
  }

  /**
   * Read the manifest, and check the files where the source can do so without holding them.
   *
   * @throws EdgeError no bundle, damaged, of another format, or `verify` is unknown.
   */
  static async open(source: BundleSource, verify: Verify = "once"): Promise<Bundle> {
    if (!VERIFY.includes(verify)) {
      throw new EdgeError(
        "invalid_argument",
        `verify: found ${JSON.stringify(verify)}, expected one of ${VERIFY.join(", ")}`,
      );
    }
    const bundle = new Bundle(source, await readManifest(source), verify);
    if (verify !== "never" && source.stat) await bundle.#checkFiles();
    return bundle;
  }

  /** How errors name the bundle. */
  get name(): string {
    return this.source.name;
  }

  /**
   * Return a file's bytes, hashed unless `verify` is "never": what is parsed is what was hashed.
   *
   * @throws EdgeError `damaged`: the manifest does not list it, or it has other bytes.
   */
  async read(file: string): Promise<Uint8Array> {
    const entry = this.#entry(file);
    if (this.#verify === "never") return this.source.read(file, Number.MAX_SAFE_INTEGER);
    const bytes = await this.source.read(file, entry.size);
    if (bytes.byteLength !== entry.size) throw this.#cut(file);
    if ((await sha256Hex(bytes)) !== entry.sha256) throw this.#changed(file);
    return bytes;
  }

  /** Return whether the manifest lists a file. */
  has(file: string): boolean {
    return Object.hasOwn(this.manifest.files, file);
  }

  /**
   * Return what onnxruntime opens. The graph may take weights from listed files only.
   *
   * @throws EdgeError `damaged`: there is no model, or it names files that are not listed.
   */
  async model(): Promise<ModelFiles> {
    const file = this.has(MODEL) || !this.has(ORT_MODEL) ? MODEL : ORT_MODEL;
    const bytes = await this.read(file);
    const where = `${this.name}/${file}`;
    const locations = file === MODEL ? [...externalLocations(bytes, where)] : [];
    for (const location of locations) {
      if (!this.has(location) || location === MEMORY) {
        throw new EdgeError(
          "damaged",
          `${where}: found weights in ${JSON.stringify(location)}, expected files of the manifest; ` +
            "export again",
        );
      }
    }
    if (this.source.path) {
      for (const path of locations) await this.source.stat?.(path); // onnxruntime follows links
      return { model: this.source.path(file), external: [] };
    }
    const external = [];
    for (const path of locations) external.push({ path, data: await this.read(path) });
    return { model: bytes, external };
  }

  async #checkFiles(): Promise<void> {
    const { source } = this;
    const lines: string[] = [];
    for (const [file, { size, sha256 }] of Object.entries(this.manifest.files)) {
      const stat = await source.stat?.(file);
      if (stat?.size !== size) throw this.#cut(file);
      lines.push(`${file} ${sha256} ${size} ${stat.identity}`);
    }
    if (this.#verify === "once" && (await source.wasChecked?.(lines))) return;
    for (const [file, { size, sha256 }] of Object.entries(this.manifest.files)) {
      const found = source.sha256
        ? await source.sha256(file)
        : await sha256Hex(await source.read(file, size));
      if (found !== sha256) throw this.#changed(file);
    }
    await source.rememberChecked?.(lines);
  }

  #entry(file: string): { size: number; sha256: string } {
    const entry = this.has(file) ? this.manifest.files[file] : undefined;
    if (entry) return entry;
    const line = `${this.name}: found no ${file} in the manifest, expected it listed`;
    throw new EdgeError("damaged", `${line}; export again`);
  }

  #cut(file: string): EdgeError {
    const { size } = this.#entry(file);
    const line = `${this.name}/${file}: found it missing or cut, expected ${size} bytes`;
    return new EdgeError("damaged", line);
  }

  #changed(file: string): EdgeError {
    const line = `${this.name}/${file}: is damaged, found other bytes than were exported`;
    return new EdgeError("damaged", `${line}; export again`);
  }
}
