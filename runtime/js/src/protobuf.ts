/** Which files an ONNX model takes its weights from, without parsing the rest of it. */

import { EdgeError } from "./errors.js";

const MAX_DEPTH = 64; // messages inside messages, as in every runner; protobuf's own limit is 100
const LENGTH_DELIMITED = 2;

/** A message of ONNX: what its fields of interest hold. */
interface Message {
  readonly fields: Readonly<Record<number, Message>>;
}

/** Field numbers are those of onnx.proto3; `tensor` is handed to `readEntry` entry by entry. */
const entry: Message = { fields: {} };
const tensor: Message = { fields: { 13: entry } }; // external_data
const sparse: Message = { fields: { 1: tensor, 2: tensor } }; // values, indices
const attribute: { fields: Record<number, Message> } = {
  fields: { 5: tensor, 10: tensor, 22: sparse, 23: sparse }, // t, tensors, sparse_tensor(s)
};
const node: Message = { fields: { 5: attribute } }; // attribute
const graph: Message = { fields: { 1: node, 5: tensor, 15: sparse } }; // node, (sparse_)initializer
attribute.fields[6] = graph; // g
attribute.fields[11] = graph; // graphs
const modelFunction: Message = { fields: { 7: node, 11: attribute } }; // node, attribute_proto
const model: Message = { fields: { 7: graph, 25: modelFunction } };

/**
 * Return every `location` of external data in a model, of every tensor wherever it is.
 *
 * @param bytes - The model's file.
 * @param where - How errors name it.
 * @throws EdgeError `damaged`: the bytes are no protobuf, or nested too deep.
 */
export function externalLocations(bytes: Uint8Array, where: string): Set<string> {
  const walker = new Walker(bytes, where);
  walker.walk(model, 0, bytes.byteLength, 0);
  return walker.locations;
}

class Walker {
  readonly locations = new Set<string>();
  readonly #bytes: Uint8Array;
  readonly #where: string;
  #place = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#where = where;
  }

  walk(message: Message, start: number, end: number, depth: number): void {
    if (depth > MAX_DEPTH) throw this.#damaged(`messages nested deeper than ${MAX_DEPTH}`);
    if (message === entry) {
      this.#readEntry(start, end);
      return;
    }
    for (const [number, begin, stop] of this.#fields(start, end)) {
      const inner = message.fields[number];
      if (inner) this.walk(inner, begin, stop, depth + 1);
    }
  }

  /**
   * Collect the locations of a key and value. Of repeated ones a parser takes the last; which one
   * that is must not decide what is refused, so all of them count.
   */
  #readEntry(start: number, end: number): void {
    const keys = [];
    const values = [];
    for (const [number, begin, stop] of this.#fields(start, end)) {
      if (number === 1) keys.push(this.#text(begin, stop));
      if (number === 2) values.push(this.#text(begin, stop));
    }
    if (!keys.includes("location")) return;
    for (const value of values.length ? values : [""]) this.locations.add(value);
  }

  /** Yield number, start and end of each field that has a length; check and skip the others. */
  *#fields(start: number, end: number): Generator<[number, number, number]> {
    let place = start;
    while (place < end) {
      this.#place = place;
      const tag = this.#varint(end);
      const number = Math.floor(tag / 8);
      const type = tag % 8;
      if (number < 1 || number >= 2 ** 29) throw this.#damaged(`field number ${number}`);
      const size = this.#size(type, end);
      const begin = this.#place;
      place = begin + size; // the caller moves #place while it looks inside
      if (place > end) throw this.#damaged(`a field of ${size} bytes`);
      if (type === LENGTH_DELIMITED) yield [number, begin, place];
    }
  }

  /** Return how many bytes a field has behind its tag and length. */
  #size(type: number, end: number): number {
    if (type === 0) {
      this.#varint(end);
      return 0;
    }
    if (type === 1) return 8;
    if (type === LENGTH_DELIMITED) return this.#varint(end);
    if (type === 5) return 4;
    throw this.#damaged(`wire type ${type}`);
  }

  /** Return an unsigned varint; beyond 2^53 it is rounded, and larger than any length. */
  #varint(end: number): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#place < end ? this.#bytes[this.#place] : undefined;
      if (byte === undefined) throw this.#damaged("an end inside a number");
      this.#place += 1;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw this.#damaged("a number of more than 10 bytes");
  }

  #text(begin: number, end: number): string {
    return new TextDecoder().decode(this.#bytes.subarray(begin, end));
  }

  #damaged(found: string): EdgeError {
    const line = `${this.#where}: found ${found} at byte ${this.#place}, expected an ONNX model`;
    return new EdgeError("damaged", `${line}; export again`);
  }
}
