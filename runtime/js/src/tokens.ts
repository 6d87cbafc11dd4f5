/** Text to token ids and back, with the bundle's tokenizer.json. */

import { Tokenizer } from "@huggingface/tokenizers";
import type { Bundle } from "./bundle.js";
import { EdgeError, firstLine } from "./errors.js";
import { type Json, parseJson } from "./json.js";

/** One text's tokens. */
export interface Encoding {
  readonly ids: readonly number[];
  /** Which of a pair each token is of. */
  readonly types: readonly number[];
  /** Whether the text was cut at the longest length. */
  readonly truncated: boolean;
}

interface PostProcessed {
  readonly tokens: string[];
  readonly tokens_pair?: string[] | null;
  readonly token_type_ids?: number[];
}

/** A bundle's tokenizer. */
export class Tokens {
  readonly #tokenizer: Tokenizer;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #hasTypes: boolean;

  private constructor(tokenizer: Tokenizer, hasTypes: boolean) {
    this.#tokenizer = tokenizer;
    this.#hasTypes = hasTypes;
    this.#ids = addedIds(tokenizer);
  }

  /**
   * Open a bundle's tokenizer; its bytes are hashed as every file's are.
   *
   * @throws EdgeError there is none, it is damaged, or of a kind that the library does not know.
   */
  static async open(bundle: Bundle): Promise<Tokens> {
    const info = bundle.manifest.tokenizer;
    if (!info) {
      const line = `${bundle.name}: holds no tokenizer; give token ids`;
      throw new EdgeError("unsupported", line);
    }
    const where = `${bundle.name}/${info.file}`;
    const bytes = await bundle.read(info.file);
    let content: Json;
    try {
      content = parseJson(bytes);
    } catch (error) {
      throw new EdgeError("damaged", `${where}: is not a tokenizer: ${firstLine(error)}`, error);
    }
    try {
      // The model's own settings would add what tokenizer.json leaves out, such as cleaned-up spaces.
      const settings = { clean_up_tokenization_spaces: false };
      const tokenizer = new Tokenizer(content as object, settings);
      return new Tokens(tokenizer, info.token_types ?? true);
    } catch (error) {
      const line = `${where}: is of a kind that @huggingface/tokenizers does not know`;
      throw new EdgeError("unsupported", `${line}: ${firstLine(error)}; give token ids`, error);
    }
  }

  /**
   * Return the tokens of a text or a pair, with special tokens.
   *
   * @param text - The text.
   * @param pair - What follows it, or null.
   * @param longest - Tokens at most; the longer of a pair is cut first.
   */
  encode(text: string, pair: string | null = null, longest = Number.POSITIVE_INFINITY): Encoding {
    const first = this.#tokenizer.tokenize(text);
    const second = pair === null ? null : this.#tokenizer.tokenize(pair);
    const whole = this.#finish(first, second);
    if (whole.ids.length <= longest) return { ...whole, truncated: false };
    const added = whole.ids.length - first.length - (second?.length ?? 0);
    const [a, b] = shares(first.length, second?.length ?? null, longest - added);
    return { ...this.#finish(first.slice(0, a), second?.slice(0, b) ?? null), truncated: true };
  }

  /** Return the text of token ids, without special tokens. */
  decode(ids: readonly number[]): string {
    return ids.length ? this.#tokenizer.decode([...ids], { skip_special_tokens: true }) : "";
  }

  /** Return ids with the special tokens that the tokenizer's file adds. */
  #finish(first: string[], second: string[] | null): { ids: number[]; types: number[] } {
    const post = this.#tokenizer.post_processor;
    const found: PostProcessed = post?.post_process(first, second, true) ?? {
      tokens: first,
      tokens_pair: second,
    };
    // Without a processor, and with byte-level ones, the pair is left to join.
    const rest = found.tokens_pair ?? [];
    const tokens = [...found.tokens, ...rest];
    const types = found.token_type_ids ?? [...found.tokens.map(() => 0), ...rest.map(() => 1)];
    return {
      ids: tokens.map((token) => this.#id(token)),
      types: this.#hasTypes ? types : types.map(() => 0),
    };
  }

  #id(token: string): number {
    const { model } = this.#tokenizer;
    const id = this.#ids.get(token) ?? this.#tokenizer.token_to_id(token) ?? model?.unk_token_id;
    if (id !== undefined) return id;
    const line = `tokenizer: found ${JSON.stringify(token)}, expected tokens of its vocabulary`;
    throw new EdgeError("damaged", line);
  }
}

/** Return the ids of added tokens by how texts are searched for them. */
function addedIds(tokenizer: Tokenizer): Map<string, number> {
  const ids = new Map<string, number>();
  for (const [id, token] of tokenizer.get_added_tokens_decoder()) {
    ids.set(token.content, id);
    if (token.normalized && tokenizer.normalizer) {
      ids.set(tokenizer.normalizer.normalize(token.content), id);
    }
  }
  return ids;
}

/** Return how many tokens of each text stay, as the library of Python cuts the longest first. */
function shares(first: number, second: number | null, room: number): [number, number] {
  if (room < 0) {
    const line = `max_length: found no room for a text beside the special tokens`;
    throw new EdgeError("invalid_argument", line);
  }
  if (second === null) return [room, 0];
  const short = Math.min(first, second);
  let [low, high] = short > room ? [short, short] : [short, Math.max(short, room - short)];
  if (low + high > room) {
    low = Math.floor(room / 2);
    high = low + (room % 2);
  }
  return first > second ? [high, low] : [low, high];
}
