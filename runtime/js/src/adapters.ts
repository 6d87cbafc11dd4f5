/** Adapters of a factored bundle: tensors by graph input, read when first used. */

import type { Bundle } from "./bundle.js";
import { EdgeError } from "./errors.js";
import type { AdapterEntry, AdapterInput, Axis } from "./manifest.js";
import { readSafetensors } from "./safetensors.js";
import { countOf, describe, type TensorData, type Tensors, zeros } from "./tensors.js";

const STACKED = "adapters"; // the leading axis of a decoder's inputs, which hold several
const HEAD_ROLES: readonly string[] = ["weight", "bias"]; // of a task head, which cannot be off
const CACHED = 32; // a reload costs milliseconds; a thousand adapters must not stay in memory

/** The adapters of one bundle. */
export class AdapterStore {
  readonly names: readonly string[];
  readonly #bundle: Bundle;
  readonly #inputs: ReadonlyMap<string, AdapterInput>;
  readonly #off: Tensors = {};
  readonly #loaded = new Map<string, Promise<Tensors>>(); // the least recently used first

  constructor(bundle: Bundle) {
    const { adapter_inputs: inputs, adapters } = bundle.manifest;
    this.#bundle = bundle;
    this.#inputs = new Map(inputs.map((input) => [input.name, one(input)]));
    this.names = inputs.length ? Object.keys(adapters) : [];
    for (const input of this.#inputs.values()) {
      const { name, dtype } = input;
      const dims = offShape(input);
      this.#off[name] = { type: dtype, dims, data: zeros(dtype, countOf(dims)) };
    }
  }

  /** Throw, listing the known adapters, unless `name` is one of them. */
  checkName(name: string): void {
    if (this.names.includes(name)) return;
    const known = this.names.join(", ") || "none";
    const why = this.#inputs.size ? "" : ` (the bundle is ${this.#bundle.manifest.mode})`;
    const found = JSON.stringify(name);
    const line = `adapter: found ${found}, expected one of: ${known}${why}`;
    throw new EdgeError("invalid_argument", line);
  }

  /** Return the label names that an adapter's outputs mean. */
  labels(name: string | null): readonly string[] | null {
    const own = name === null ? null : this.#entry(name).labels;
    return own ?? this.#bundle.manifest.labels;
  }

  /**
   * Return the graph inputs of an adapter; null gives factors of rank 0.
   *
   * @throws EdgeError the adapter is unknown, foreign or damaged, or the base has no head.
   */
  async tensors(name: string | null): Promise<Tensors> {
    if (name === null) {
      this.#checkHead();
      return this.#off;
    }
    this.checkName(name);
    const loaded = this.#loaded.get(name) ?? this.#read(name);
    this.#loaded.delete(name);
    this.#loaded.set(name, loaded);
    for (const oldest of this.#loaded.keys()) {
      if (this.#loaded.size <= CACHED) break;
      this.#loaded.delete(oldest);
    }
    try {
      return await loaded;
    } catch (error) {
      // What a broken connection failed to read is tried again.
      if (this.#loaded.get(name) === loaded) this.#loaded.delete(name);
      throw error;
    }
  }

  #checkHead(): void {
    if (!this.#inputs.size || this.#bundle.manifest.head !== "adapter") return;
    const line = `adapter: found none, expected one of: ${this.names.join(", ")}`;
    throw new EdgeError("invalid_argument", `${line}; the base has no trained head`);
  }

  #entry(name: string): AdapterEntry {
    this.checkName(name);
    return this.#bundle.manifest.adapters[name] as AdapterEntry;
  }

  async #read(name: string): Promise<Tensors> {
    const entry = this.#entry(name);
    const { base_fingerprint: base } = this.#bundle.manifest;
    if (entry.base !== base) {
      throw new EdgeError(
        "foreign_adapter",
        `adapter ${name}: is foreign: found base ${entry.base.slice(0, 12)}, expected ` +
          `${base.slice(0, 12)}; export it for this base`,
      );
    }
    const bytes = await this.#bundle.read(entry.file);
    const found = readSafetensors(bytes, `adapter ${name}`);
    for (const key of found.keys()) {
      if (this.#inputs.has(key)) continue;
      const line = `adapter ${name}: the graph has no input ${JSON.stringify(key)}`;
      throw new EdgeError("damaged", `${line}; export it for this base`);
    }
    const sizes = new Map<string, number>();
    return Object.fromEntries(
      [...this.#inputs.values()].map((input) => [
        input.name,
        found.has(input.name)
          ? fitting(found.get(input.name) as TensorData, input, sizes, `adapter ${name}`)
          : this.#left(input, `adapter ${name}`),
      ]),
    );
  }

  /** Return the zeros of a site that an adapter leaves alone. */
  #left(input: AdapterInput, where: string): TensorData {
    const isHead = HEAD_ROLES.includes(input.role ?? "");
    if (offShape(input).includes(0) && !isHead) return this.#off[input.name] as TensorData;
    const shape = `[${input.shape.join(",")}]`;
    throw new EdgeError(
      "damaged",
      `${where}: found no ${input.name}, expected shape ${shape}; export it again`,
    );
  }
}

/** Return a tensor that has an input's type and sizes; `sizes` collects those of named axes. */
function fitting(
  tensor: TensorData,
  input: AdapterInput,
  sizes: Map<string, number>,
  where: string,
): TensorData {
  const fits =
    tensor.type === input.dtype &&
    tensor.dims.length === input.shape.length &&
    input.shape.every((axis, place) => agrees(axis, tensor.dims[place] as number, sizes));
  if (fits) return tensor;
  throw new EdgeError(
    "damaged",
    `${where}: ${input.name}: found ${describe(tensor)}, expected ` +
      `${input.dtype}[${input.shape.map((axis) => named(axis, sizes)).join(",")}]; ` +
      "export it for this base",
  );
}

function agrees(axis: Axis, size: number, sizes: Map<string, number>): boolean {
  if (typeof axis === "number") return axis === size;
  const known = sizes.get(axis);
  if (known === undefined) sizes.set(axis, size);
  return known === undefined || known === size;
}

function named(axis: Axis, sizes: ReadonlyMap<string, number>): string {
  const size = typeof axis === "string" ? sizes.get(axis) : undefined;
  return size === undefined ? String(axis) : `${axis}=${size}`;
}

/** Return the input of one adapter: a decoder's inputs hold several, a file holds one. */
function one(input: AdapterInput): AdapterInput {
  if (input.shape[0] !== STACKED) return input;
  return { ...input, shape: input.shape.slice(1) };
}

function offShape({ shape }: AdapterInput): readonly number[] {
  return shape.map((axis) => (typeof axis === "string" ? 0 : axis));
}
