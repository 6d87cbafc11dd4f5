/** What a run is given, checked against the manifest before onnxruntime sees it. */

import { EdgeError } from "./errors.js";
import type { Axis, Manifest, Node } from "./manifest.js";
import {
  countOf,
  describe,
  type ElementType,
  type TensorData,
  type Tensors,
  type TypedArray,
  zeros,
} from "./tensors.js";

/** Numbers in rows: `[[101, 7592, 102]]` is a batch of one. */
export type Nested = readonly (number | bigint | boolean | Nested)[];

/** A tensor, onnxruntime's own among them, or nested arrays of numbers. */
export type InputValue =
  | { readonly type?: string; readonly dims: readonly number[]; readonly data: unknown }
  | Nested;

/** The inputs of a run by name. */
export type Inputs = Readonly<Record<string, InputValue>>;

type Numbers = ArrayLike<number> | ArrayLike<bigint>;

interface Loose {
  readonly dims: readonly number[];
  readonly data: Numbers;
  readonly kind: Kind;
  readonly type: string;
}

type Kind = "integer" | "float" | "numbers"; // of a type or typed array, or of JavaScript's own

/**
 * Return the token inputs as the graph wants them.
 *
 * Integers of any width serve as ids; missing `token_type_ids` are zeros.
 *
 * @throws EdgeError `invalid_argument`: an input is unknown, missing or ill-shaped, an id is none.
 */
export function checkInputs(inputs: Inputs, manifest: Manifest): Tensors {
  const names = manifest.inputs.map((node) => node.name);
  const unknown = Object.keys(inputs)
    .filter((name) => !names.includes(name))
    .sort()[0];
  if (unknown !== undefined) throw invalid("inputs", JSON.stringify(unknown), names.join(", "));
  const sizes = new Map<string, number>();
  const tensors: Tensors = {};
  for (const node of manifest.inputs) {
    const value = given(inputs, node.name);
    if (value === undefined) {
      throw invalid("inputs", `no ${JSON.stringify(node.name)}`, names.join(", "));
    }
    const loose = toLoose(node.name, value);
    checkShape(node, loose.dims, sizes);
    tensors[node.name] = typed(node, loose);
  }
  if (manifest.decoder) checkWhole(tensors);
  checkIds(tensors, manifest);
  const longest = manifest.max_length;
  const tokens = sizes.get("sequence") ?? 0;
  if (longest && tokens > longest) {
    throw invalid("inputs", `${tokens} tokens`, `at most ${longest}; truncate them`);
  }
  return tensors;
}

/** Return an input's value; token types that were left out are zeros as long as the ids. */
function given(inputs: Inputs, name: string): InputValue | undefined {
  if (Object.hasOwn(inputs, name)) return inputs[name];
  const ids = Object.hasOwn(inputs, "input_ids") ? inputs["input_ids"] : undefined;
  if (name !== "token_type_ids" || ids === undefined) return undefined;
  const { dims } = toLoose("input_ids", ids);
  return { type: "int64", dims, data: zeros("int64", countOf(dims)) };
}

function toLoose(name: string, value: InputValue): Loose {
  if (isList(value)) {
    const dims: number[] = [];
    for (let part: unknown = value; isList(part); part = part[0]) dims.push(part.length);
    const data = (value as unknown[]).flat(dims.length).map(Number);
    if (!isRegular(value, dims)) throw invalid(name, "rows of different lengths", "an array");
    return { dims, data, kind: "numbers", type: "numbers" };
  }
  const tensor = value as { dims?: unknown; data?: unknown; type?: unknown };
  const data = tensor?.data;
  if (!isList(tensor?.dims) || !(ArrayBuffer.isView(data) || isList(data))) {
    throw invalid(name, typeof value, "a tensor or nested arrays");
  }
  const dims = tensor.dims as number[];
  const numbers = data as unknown as Numbers;
  if (
    !dims.every((size) => Number.isSafeInteger(size) && size >= 0) ||
    countOf(dims) !== numbers.length
  ) {
    throw invalid(
      name,
      `${numbers.length} elements of [${dims.join(",")}]`,
      "as many as its sizes",
    );
  }
  const type = typeof tensor.type === "string" ? tensor.type : data.constructor.name;
  return { dims, data: numbers, kind: kindOf(data, type), type };
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function isRegular(value: unknown, dims: readonly number[], axis = 0): boolean {
  if (axis === dims.length) return !isList(value);
  return (
    isList(value) &&
    value.length === dims[axis] &&
    value.every((part) => isRegular(part, dims, axis + 1))
  );
}

function kindOf(data: unknown, type: string): Kind {
  const isFloat =
    data instanceof Float32Array || data instanceof Float64Array || type.startsWith("float");
  if (isFloat) return "float";
  return isList(data) ? "numbers" : "integer";
}

function checkShape(node: Node, found: readonly number[], sizes: Map<string, number>): void {
  const shapes = `[${found.join(",")}]`;
  if (found.length !== node.shape.length) {
    throw invalid(node.name, `${found.length} axes ${shapes}`, `[${node.shape.join(",")}]`);
  }
  node.shape.forEach((axis: Axis, place) => {
    const size = found[place] as number;
    const want = typeof axis === "number" ? axis : (sizes.get(axis) ?? size);
    if (size !== want || size === 0) {
      throw invalid(node.name, `shape ${shapes}`, `${axis}=${want || "at least 1"}`);
    }
    if (typeof axis === "string") sizes.set(axis, size);
  });
}

/** Return numbers as a node's type; integers do not become floats unasked, nor floats integers. */
function typed(node: Node, loose: Loose): TensorData {
  const { name, dtype } = node;
  const wanted: Kind = dtype.startsWith("float") ? "float" : "integer";
  if (loose.kind !== "numbers" && loose.kind !== wanted) {
    throw invalid(name, describe({ type: loose.type, dims: loose.dims }), dtype);
  }
  if (loose.type === dtype && ArrayBuffer.isView(loose.data)) {
    return { type: dtype, dims: loose.dims, data: loose.data as unknown as TypedArray };
  }
  if (dtype === "float16") throw invalid(name, loose.type, "a tensor of float16");
  return { type: dtype, dims: loose.dims, data: converted(name, dtype, loose.data) };
}

function converted(name: string, dtype: ElementType, numbers: Numbers): TypedArray {
  const data = zeros(dtype, numbers.length);
  const isFloat = dtype.startsWith("float");
  for (let place = 0; place < numbers.length; place += 1) {
    const value = numbers[place] as number | bigint;
    if (!isFloat && typeof value === "number" && !Number.isSafeInteger(value)) {
      throw invalid(name, String(value), dtype);
    }
    if (data instanceof BigInt64Array || data instanceof BigUint64Array)
      data[place] = BigInt(value);
    else {
      data[place] = Number(value);
      // What does not fit wraps around in a typed array.
      if (!isFloat && data[place] !== Number(value)) throw invalid(name, String(value), dtype);
    }
  }
  return data;
}

/** Refuse ids that are none: onnxruntime would take -1 for the last row. */
function checkIds(tensors: Tensors, manifest: Manifest): void {
  const size = manifest.vocabulary_size;
  const ids = tensors["input_ids"];
  if (!size || !ids) return;
  for (const id of ids.data) {
    if (id < 0 || id >= size) throw invalid("input_ids", String(id), `ids of 0 to ${size - 1}`);
  }
}

/** Refuse padding, which a decoder's attention would take for tokens. */
function checkWhole(tensors: Tensors): void {
  const tokens = tensors["input_ids"];
  const mask = tensors["attention_mask"];
  if (!tokens || !mask) return;
  const holes = Array.from<number | bigint>(mask.data).filter(
    (value) => Number(value) === 0,
  ).length;
  if (holes === 0 && mask.dims.join() === tokens.dims.join()) return;
  throw invalid(
    "attention_mask",
    `[${mask.dims.join(",")}] with ${holes} zeros`,
    `[${tokens.dims.join(",")}] of ones; run rows of different lengths apart`,
  );
}

function invalid(where: string, found: string, expected: string): EdgeError {
  return new EdgeError("invalid_argument", `${where}: found ${found}, expected ${expected}`);
}
