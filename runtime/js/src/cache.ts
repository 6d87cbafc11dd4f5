/** Keys and values of one token sequence: what a run gives is what the next one takes. */

import { EdgeError } from "./errors.js";
import type { DecoderEntry, Manifest } from "./manifest.js";
import type { Session } from "./session.js";
import { floatsOf, type TensorData, type Tensors } from "./tensors.js";

/** Prompt tokens a run: attention's scratch memory grows with the square of them. */
const CHUNK = 256;
const LOGITS = "logits"; // of the last token

/** What a decoder's graph takes beside tokens in every run: the adapter, as a stack of one. */
export function decoderFeeds(decoder: DecoderEntry, factors: Tensors, rows: number): Tensors {
  const feeds: Tensors = {};
  for (const [name, { type, dims, data }] of Object.entries(factors)) {
    feeds[name] = { type, dims: [1, ...dims], data };
  }
  const index = decoder.adapter_index;
  if (index) feeds[index] = { type: "int64", dims: [rows], data: new BigInt64Array(rows) };
  return feeds;
}

/** Return the past of rows that have read nothing. */
export function emptyPast(decoder: DecoderEntry, rows: number): Tensors {
  const dims = [rows, decoder.kv_heads, 0, decoder.head_size];
  const empty: TensorData = { type: "float32", dims, data: new Float32Array(0) };
  return Object.fromEntries(decoder.cache.map(({ past }) => [past, empty]));
}

/** A token sequence that the model has read. */
export class Cache {
  readonly #session: Session;
  readonly #decoder: DecoderEntry;
  readonly #vocabulary: number;
  readonly #feeds: Tensors;
  #past: Tensors;
  #length = 0;

  /** @param factors - The tensors of the adapter that the sequence is read with. */
  constructor(session: Session, manifest: Manifest, factors: Tensors) {
    if (!manifest.decoder) {
      const line = `generate: the bundle's task is ${manifest.task}, expected text-generation`;
      throw new EdgeError("unsupported", line);
    }
    this.#session = session;
    this.#decoder = manifest.decoder;
    this.#vocabulary = manifest.vocabulary_size ?? Number.POSITIVE_INFINITY;
    this.#feeds = decoderFeeds(manifest.decoder, factors, 1);
    this.#past = emptyPast(manifest.decoder, 1);
  }

  /** How many tokens were read. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of keys and values. */
  get bytes(): number {
    return Object.values(this.#past).reduce((sum, { data }) => sum + data.byteLength, 0);
  }

  /**
   * Read more tokens; return the logits, (vocabulary), of the last.
   *
   * @throws EdgeError an id is none, the context is full, or the run failed; nothing was read then.
   */
  async read(ids: readonly number[]): Promise<Float32Array | Float64Array> {
    this.#check(ids);
    const before = { past: this.#past, length: this.#length };
    try {
      let logits: Float32Array | Float64Array = new Float32Array(0);
      for (let start = 0; start < ids.length; start += CHUNK) {
        const found = await this.#run(ids.slice(start, start + CHUNK));
        logits = floatsOf(found);
      }
      return logits;
    } catch (error) {
      this.#past = before.past;
      this.#length = before.length;
      throw error;
    }
  }

  /** Return the logits behind one more token, which is not kept. */
  async peek(id: number): Promise<Float32Array | Float64Array> {
    const before = { past: this.#past, length: this.#length };
    const logits = await this.read([id]);
    this.#past = before.past;
    this.#length = before.length;
    return logits;
  }

  async #run(ids: readonly number[]): Promise<TensorData> {
    const total = this.#length + ids.length;
    const feeds: Tensors = {
      ...this.#feeds,
      ...this.#past,
      input_ids: { type: "int64", dims: [1, ids.length], data: BigInt64Array.from(ids, BigInt) },
      attention_mask: { type: "int64", dims: [1, total], data: new BigInt64Array(total).fill(1n) },
    };
    const { cache } = this.#decoder;
    const found = await this.#session.run(feeds, [LOGITS, ...cache.map(({ present }) => present)]);
    this.#past = Object.fromEntries(
      cache.map(({ past, present }) => [past, found[present] as TensorData]),
    );
    this.#length = total;
    return found[LOGITS] as TensorData;
  }

  #check(ids: readonly number[]): void {
    if (!ids.length) throw invalid("tokens", "none", "at least one");
    const odd = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= this.#vocabulary);
    if (odd !== undefined) {
      throw invalid("tokens", String(odd), `ids of 0 to ${this.#vocabulary - 1}`);
    }
    const most = this.#decoder.context_length;
    const total = this.#length + ids.length;
    if (total > most)
      throw invalid("tokens", String(total), `at most ${most}, the context; give fewer`);
  }
}

function invalid(where: string, found: string, expected: string): EdgeError {
  return new EdgeError("invalid_argument", `${where}: found ${found}, expected ${expected}`);
}
