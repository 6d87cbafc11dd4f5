/** Tensors as onnxruntime's JavaScript packages have them: a type, sizes and a typed array. */

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/**
 * What each type's elements are kept in. float16 is in its 16 bits; bool is a byte, 0 or 1.
 * Names are numpy's, as manifests have them, and onnxruntime's, which are the same.
 */
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
} as const;

export type ElementType = keyof typeof ARRAYS;

/** A tensor: `data` holds the product of `dims` elements, the last axis fastest. */
export interface TensorData {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: TypedArray;
}

/** Tensors by the name of a graph's input or output. */
export type Tensors = Record<string, TensorData>;

/** Return whether a manifest's or a file's word is an element type. */
export function isElementType(type: unknown): type is ElementType {
  return typeof type === "string" && Object.hasOwn(ARRAYS, type);
}

/** Return an array of zeros. */
export function zeros(type: ElementType, count: number): TypedArray {
  return new ARRAYS[type](count);
}

/** Return bytes an element takes. */
export function elementSize(type: ElementType): number {
  return ARRAYS[type].BYTES_PER_ELEMENT;
}

/** Return little-endian bytes as elements: a view, or a copy where they are not aligned. */
export function viewOf(type: ElementType, bytes: Uint8Array): TypedArray {
  const kind = ARRAYS[type];
  const aligned = bytes.byteOffset % kind.BYTES_PER_ELEMENT === 0 ? bytes : new Uint8Array(bytes);
  const count = aligned.byteLength / kind.BYTES_PER_ELEMENT;
  return new kind(aligned.buffer as ArrayBuffer, aligned.byteOffset, count);
}

/** Return the number of elements of so many axes. */
export function countOf(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

/** Return how a tensor is named in an error: "float32[1,128]". */
export function describe(tensor: { type: string; dims: readonly number[] }): string {
  return `${tensor.type}[${tensor.dims.join(",")}]`;
}

/** Return the numbers of a float tensor; 16-bit floats are widened. */
export function floatsOf(tensor: TensorData): Float32Array | Float64Array {
  if (tensor.data instanceof Float32Array || tensor.data instanceof Float64Array)
    return tensor.data;
  if (tensor.type === "float16") return Float32Array.from(tensor.data as Uint16Array, fromHalf);
  return Float64Array.from(tensor.data as ArrayLike<number | bigint>, Number);
}

/** Return the value of a 16-bit float (IEEE 754 binary16). */
function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
