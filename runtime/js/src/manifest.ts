/** A bundle's manifest: its seal, its format and the names of files in it, checked before use. */

import { sha256Hex } from "./digest.js";
import { EdgeError } from "./errors.js";
import { isObject, parseJson } from "./json.js";
import { ABSENT, illFormed } from "./schema.js";
import type { BundleSource } from "./source.js";
import { type ElementType, isElementType } from "./tensors.js";

export const FORMAT_VERSION = 1;
export const MANIFEST = "manifest.json";
const MAX_MANIFEST = 16 * 2 ** 20; // bytes
const SEAL = '{\n "sha256": "';
const DIGEST = 64; // characters

/** A size, or the name of an axis that may have any. */
export type Axis = number | string;

export interface Node {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly Axis[];
}

export interface AdapterInput extends Node {
  readonly role?: string | null;
}

export interface AdapterEntry {
  readonly file: string;
  readonly labels?: readonly string[] | null;
  readonly base: string;
}

export interface DecoderEntry {
  readonly kv_heads: number;
  readonly head_size: number;
  readonly context_length: number;
  readonly cache: readonly { readonly past: string; readonly present: string }[];
  readonly adapter_index: string | null;
  readonly eos_token_ids: readonly number[];
}

/** What this package reads of a manifest; `edge_lra/schemas/manifest.json` describes all of it. */
export interface Manifest {
  readonly format_version: number;
  readonly name: string;
  readonly task: string;
  readonly problem_type: string | null;
  readonly labels: readonly string[] | null;
  readonly mode: string;
  readonly max_length: number | null;
  readonly pooling: { readonly mode: string; readonly normalize?: boolean } | null;
  readonly inputs: readonly Node[];
  readonly outputs: readonly Node[];
  readonly adapter_inputs: readonly AdapterInput[];
  readonly min_onnxruntime: string | null;
  readonly session_options: Readonly<Record<string, string | number | boolean>>;
  readonly adapters: Readonly<Record<string, AdapterEntry>>;
  readonly default_adapter: string | null;
  readonly head: string | null;
  readonly base_fingerprint: string;
  readonly tokenizer: {
    readonly file: string;
    readonly pad_id: number;
    readonly token_types?: boolean;
  } | null;
  readonly golden: {
    readonly adapters: readonly (string | null)[];
    readonly kernel_spread?: number;
  };
  readonly files: Readonly<Record<string, { readonly size: number; readonly sha256: string }>>;
  readonly vocabulary_size: number | null;
  readonly decoder: DecoderEntry | null;
}

/**
 * Read a bundle's manifest.
 *
 * @throws EdgeError `not_found` where there is none, `damaged` where it is not as exported,
 *   `unsupported` where it is of another format.
 */
export async function readManifest(source: BundleSource): Promise<Manifest> {
  const where = `${source.name}/${MANIFEST}`;
  const bytes = await source.read(MANIFEST, MAX_MANIFEST);
  const found = parse(bytes, where);
  if (found["format_version"] !== FORMAT_VERSION) {
    const version = JSON.stringify(found["format_version"]);
    throw new EdgeError(
      "unsupported",
      `${where}: found bundle format ${version}, expected ${FORMAT_VERSION}; ` +
        "use the edge-lra that wrote it, or export again",
    );
  }
  if (!(await isSealed(bytes))) {
    throw damaged(where, "is damaged, found other bytes than were exported");
  }
  // The seal vouches for what the exporter wrote; what a program takes for granted is checked too.
  const complete = { ...ABSENT, ...found };
  const odd = illFormed(complete);
  if (odd !== null) throw damaged(where, `found an ill-formed "${odd}"`);
  const manifest = complete as unknown as Manifest;
  checkTypes(manifest, where);
  checkNames(manifest, where);
  return manifest;
}

function parse(bytes: Uint8Array, where: string): Record<string, unknown> {
  let found: unknown;
  try {
    found = parseJson(bytes, true);
  } catch {
    throw damaged(where, "found a corrupt file, expected JSON");
  }
  const names = ["format_version", "files", "base_fingerprint"];
  if (
    !isObject(found) ||
    !names.every((name) => Object.hasOwn(found as object, name)) ||
    !isObject(found["files"])
  ) {
    throw new EdgeError(
      "damaged",
      `${where}: found another kind of file, expected a bundle's manifest`,
    );
  }
  return found;
}

/** Return whether the file's digest, with zeros in its own place, is the one it begins with. */
async function isSealed(bytes: Uint8Array): Promise<boolean> {
  const start = SEAL.length;
  const end = start + DIGEST;
  const unsealed = new Uint8Array(bytes); // Node's buffers do not copy in slice()
  unsealed.fill(0x30, start, end);
  const text = String.fromCharCode(...bytes.subarray(0, end));
  return text === SEAL + (await sha256Hex(unsealed));
}

/** Refuse types of tensors that onnxruntime's JavaScript packages do not have. */
function checkTypes(manifest: Manifest, where: string): void {
  const { inputs, outputs, adapter_inputs } = manifest;
  for (const { name, dtype } of [...inputs, ...outputs, ...adapter_inputs]) {
    if (isElementType(dtype)) continue;
    const line = `${where}: ${JSON.stringify(name)}: found dtype ${JSON.stringify(dtype)}`;
    throw new EdgeError("unsupported", `${line}, expected one that this runner knows`);
  }
}

/** Refuse names of files that lead out of the folder, on any system. */
function checkNames(manifest: Manifest, where: string): void {
  const adapters = Object.values(manifest.adapters).map((adapter) => adapter.file);
  const tokenizer = manifest.tokenizer ? [manifest.tokenizer.file] : [];
  for (const name of [...Object.keys(manifest.files), ...adapters, ...tokenizer]) {
    if (!isInside(name)) {
      throw new EdgeError(
        "damaged",
        `${where}: found ${JSON.stringify(name)}, expected files inside the bundle`,
      );
    }
  }
}

function isInside(name: string): boolean {
  if (/[\\:\0]/.test(name)) return false; // a colon is of a drive, or a stream of a file
  return name.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

function damaged(where: string, found: string): EdgeError {
  return new EdgeError("damaged", `${where}: ${found}; export again`);
}
