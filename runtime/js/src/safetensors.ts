/** Read safetensors: a length, a JSON header and the tensors' bytes, every number of it checked. */

import { EdgeError, firstLine } from "./errors.js";
import { isObject, type Json, parseJson } from "./json.js";
import { countOf, type ElementType, elementSize, type TensorData, viewOf } from "./tensors.js";

const MAX_HEADER = 16 * 2 ** 20; // bytes
const PREFIX = 8; // bytes of the header's length
const MAX_AXES = 64; // onnxruntime takes fewer

const TYPES: Readonly<Record<string, ElementType>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U64: "uint64",
  U32: "uint32",
  U16: "uint16",
  U8: "uint8",
  BOOL: "bool",
};

interface Entry {
  name: string;
  type: ElementType;
  dims: number[];
  begin: number;
  end: number;
}

/**
 * Return a file's tensors by name; they share its memory where their place is aligned.
 *
 * @param bytes - The whole file.
 * @param where - How errors name it.
 * @throws EdgeError `damaged`: a size, a type or a place is wrong, places overlap or leave gaps.
 */
export function readSafetensors(bytes: Uint8Array, where: string): Map<string, TensorData> {
  const start = PREFIX + headerLength(bytes, where);
  const entries = parseHeader(bytes.subarray(PREFIX, start), where);
  checkPlaces(entries, bytes.byteLength - start, where);
  return new Map(
    entries.map(({ name, type, dims, begin, end }) => {
      const data = viewOf(type, bytes.subarray(start + begin, start + end));
      return [name, { type, dims, data }];
    }),
  );
}

function headerLength(bytes: Uint8Array, where: string): number {
  if (bytes.byteLength < PREFIX) {
    throw damaged(where, `${bytes.byteLength} bytes`, `a header's length in ${PREFIX}`);
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, PREFIX).getBigUint64(0, true);
  const most = Math.min(MAX_HEADER, bytes.byteLength - PREFIX);
  if (length > BigInt(most)) {
    throw damaged(where, `a header of ${length} bytes`, `at most ${most}`);
  }
  return Number(length);
}

function parseHeader(bytes: Uint8Array, where: string): Entry[] {
  let header: Json;
  try {
    header = parseJson(bytes, true);
  } catch (error) {
    throw damaged(where, `no JSON header (${firstLine(error)})`, "one");
  }
  if (!isObject(header)) throw damaged(where, "another kind of header", "a JSON object");
  return Object.entries(header)
    .filter(([name]) => name !== "__metadata__")
    .map(([name, entry]) => parseEntry(name, entry, `${where}: ${name}`));
}

function parseEntry(name: string, entry: Json, where: string): Entry {
  if (!isObject(entry)) throw damaged(where, "no entry", "dtype, shape and data_offsets");
  const { dtype, shape, data_offsets: offsets } = entry;
  const type = typeof dtype === "string" && Object.hasOwn(TYPES, dtype) ? TYPES[dtype] : undefined;
  if (!type) {
    throw damaged(where, `dtype ${JSON.stringify(dtype)}`, Object.keys(TYPES).join(", "));
  }
  if (!isSizes(shape) || shape.length > MAX_AXES) {
    throw damaged(where, `shape ${JSON.stringify(shape)}`, `at most ${MAX_AXES} sizes`);
  }
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw damaged(where, `data_offsets ${JSON.stringify(offsets)}`, "where it begins and ends");
  }
  const [begin, end] = offsets as [number, number];
  // A product beyond 2^53 is rounded, but never to a size that a file has.
  const size = countOf(shape) * elementSize(type);
  if (end - begin !== size) throw damaged(where, `${end - begin} bytes`, `${size}`);
  return { name, type, dims: shape, begin, end };
}

function isSizes(value: Json | undefined): value is number[] {
  return (
    Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && Number(size) >= 0)
  );
}

/** Check that the tensors fill the file's data: inside it, one behind the other. */
function checkPlaces(entries: readonly Entry[], length: number, where: string): void {
  let reached = 0;
  for (const { name, begin, end } of [...entries].sort(
    (a, b) => a.begin - b.begin || a.end - b.end,
  )) {
    if (begin !== reached) throw damaged(`${where}: ${name}`, `its data at ${begin}`, `${reached}`);
    reached = end;
  }
  if (reached !== length) throw damaged(where, `${length} bytes of data`, `${reached}`);
}

function damaged(where: string, found: string, expected: string): EdgeError {
  return new EdgeError("damaged", `${where}: found ${found}, expected ${expected}; export again`);
}
