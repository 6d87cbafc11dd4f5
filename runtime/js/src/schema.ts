/** The entries of a manifest that this package reads: what each must be, and what its absence means. */

import { isObject } from "./json.js";

/** What entries that a bundle lacks mean. */
export const ABSENT = {
  problem_type: null,
  labels: null,
  max_length: null,
  pooling: null,
  adapter_inputs: [],
  min_onnxruntime: null,
  session_options: {},
  adapters: {},
  default_adapter: null,
  head: null,
  tokenizer: null,
  golden: { adapters: [] },
  vocabulary_size: null,
  decoder: null,
};

type Check = (value: unknown) => boolean;
const isString: Check = (value) => typeof value === "string";
const isCount: Check = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || value === undefined || check(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const mapOf =
  (check: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(check);
const record =
  (checks: Record<string, Check>): Check =>
  (value) =>
    isObject(value) && Object.entries(checks).every(([name, check]) => check(value[name]));
const isNode = {
  name: isString,
  dtype: isString,
  shape: listOf((axis) => isString(axis) || isCount(axis)),
};

const SHAPE: Record<string, Check> = {
  task: isString,
  problem_type: orNull(isString),
  labels: orNull(listOf(isString)),
  max_length: orNull(isCount),
  pooling: orNull(record({ mode: isString })),
  inputs: listOf(record(isNode)),
  outputs: listOf(record(isNode)),
  adapter_inputs: listOf(record({ ...isNode, role: orNull(isString) })),
  min_onnxruntime: orNull(isString),
  session_options: mapOf((value) => ["string", "number", "boolean"].includes(typeof value)),
  adapters: mapOf(record({ file: isString, labels: orNull(listOf(isString)), base: isString })),
  default_adapter: orNull(isString),
  head: orNull(isString),
  base_fingerprint: isString,
  tokenizer: orNull(record({ file: isString, pad_id: isCount })),
  golden: record({ adapters: listOf(orNull(isString)) }),
  files: mapOf(record({ size: isCount, sha256: isString })),
  vocabulary_size: orNull(isCount),
  decoder: orNull(
    record({
      kv_heads: isCount,
      head_size: isCount,
      context_length: isCount,
      cache: listOf(record({ past: isString, present: isString })),
      adapter_index: orNull(isString),
      eos_token_ids: listOf(isCount),
    }),
  ),
};

/** Return the name of an entry that is not what it must be, or null. */
export function illFormed(manifest: Readonly<Record<string, unknown>>): string | null {
  const odd = Object.entries(SHAPE).find(([name, check]) => !check(manifest[name]));
  return odd?.[0] ?? null;
}
