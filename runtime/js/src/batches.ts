/** Texts to the inputs of runs. */

import { EdgeError } from "./errors.js";
import type { Manifest } from "./manifest.js";
import type { TensorData, Tensors } from "./tensors.js";
import type { Encoding, Tokens } from "./tokens.js";

const BATCH = 16;
const MAX_LENGTH = 512; // of a model whose manifest names none

/** Inputs (batch, sequence) by name, and how many texts were cut at the longest length. */
export interface Tokenized {
  readonly inputs: Tensors;
  readonly truncated: number;
}

/** Texts of one length, and their places in the caller's list. */
export interface Batch {
  readonly places: readonly number[];
  readonly inputs: Tensors;
}

/** Makes batches with one bundle's tokenizer. */
export class Batches {
  readonly #tokens: Tokens;
  readonly #names: readonly string[];
  readonly #longest: number;
  readonly #padId: number;

  constructor(tokens: Tokens, manifest: Manifest) {
    this.#tokens = tokens;
    this.#names = manifest.inputs.map((node) => node.name);
    this.#longest = manifest.max_length || MAX_LENGTH;
    this.#padId = manifest.tokenizer?.pad_id ?? 0;
  }

  /** Return one batch, padded to its longest text. */
  padded(texts: readonly string[], pairs: readonly string[] | undefined): Tokenized {
    const encodings = this.#encode(texts, pairs);
    if (!encodings.length) throw invalid("texts", "none", "at least one");
    const truncated = encodings.filter((encoding) => encoding.truncated).length;
    return { inputs: this.#stack(encodings), truncated };
  }

  /** Return batches none of which is padded: that costs as much as text. */
  ofOneLength(texts: readonly string[], pairs: readonly string[] | undefined): Batch[] {
    const encodings = this.#encode(texts, pairs);
    const byLength = new Map<number, number[]>();
    encodings.forEach(({ ids }, place) => {
      byLength.set(ids.length, [...(byLength.get(ids.length) ?? []), place]);
    });
    return [...byLength.values()].flatMap((all) => {
      const batches: Batch[] = [];
      for (let start = 0; start < all.length; start += BATCH) {
        const places = all.slice(start, start + BATCH);
        const rows = places.map((place) => encodings[place] as Encoding);
        batches.push({ places, inputs: this.#stack(rows) });
      }
      return batches;
    });
  }

  #encode(texts: readonly string[], pairs: readonly string[] | undefined): Encoding[] {
    checkTexts("texts", texts);
    if (pairs !== undefined) {
      checkTexts("pairs", pairs);
      if (pairs.length !== texts.length) {
        throw invalid("pairs", String(pairs.length), `one a text: ${texts.length}`);
      }
    }
    return texts.map((text, place) =>
      this.#tokens.encode(text, pairs?.[place] ?? null, this.#longest),
    );
  }

  #stack(rows: readonly Encoding[]): Tensors {
    const length = Math.max(1, ...rows.map(({ ids }) => ids.length));
    const column = (fill: number, value: (row: Encoding, place: number) => number): TensorData => {
      const data = new BigInt64Array(rows.length * length).fill(BigInt(fill));
      rows.forEach((row, index) => {
        for (let place = 0; place < row.ids.length; place += 1) {
          data[index * length + place] = BigInt(value(row, place));
        }
      });
      return { type: "int64", dims: [rows.length, length], data };
    };
    const columns: Tensors = {
      input_ids: column(this.#padId, ({ ids }, place) => ids[place] as number),
      attention_mask: column(0, () => 1),
      token_type_ids: column(0, ({ types }, place) => types[place] as number),
    };
    return Object.fromEntries(
      Object.entries(columns).filter(([name]) => this.#names.includes(name)),
    );
  }
}

function checkTexts(name: string, texts: readonly string[]): void {
  if (!Array.isArray(texts)) throw invalid(name, `one ${typeof texts}`, "an array of strings");
  const odd = texts.find((text) => typeof text !== "string");
  if (odd !== undefined) throw invalid(name, typeof odd, "strings");
}

function invalid(where: string, found: string, expected: string): EdgeError {
  return new EdgeError("invalid_argument", `${where}: found ${found}, expected ${expected}`);
}
