/** The loop of greedy generation: a prompt is read, then token by token goes on. */

import type { Cache } from "./cache.js";
import { EdgeError } from "./errors.js";
import type { DecoderEntry } from "./manifest.js";
import type { Pieces } from "./pieces.js";
import { argmax } from "./tasks.js";

/** What was generated behind a prompt. */
export interface Generation {
  /** What follows the prompt, without special tokens; empty where no tokenizer is to be had. */
  readonly text: string;
  /** All new tokens, the stop token among them. */
  readonly tokens: readonly number[];
  readonly promptTokens: number;
  readonly stoppedBy: "stop_token" | "max_tokens" | "aborted";
  /** Time to read the prompt, to the first token. */
  readonly prefillMs: number;
  /** Time from then on. */
  readonly decodeMs: number;
  /** Tokens a second behind the first. */
  readonly tokensPerS: number;
}

/** How far to go on. */
export interface Limits {
  readonly maxTokens: number;
  readonly stopTokens: readonly number[];
  readonly onText?: ((piece: string) => void) | undefined;
  readonly onToken?: ((token: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Refuse a prompt without room behind it.
 *
 * @throws EdgeError `invalid_argument`.
 */
export function checkRoom(decoder: DecoderEntry, prompt: number, maxTokens: number): void {
  const context = decoder.context_length;
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new EdgeError("invalid_argument", `maxTokens: found ${maxTokens}, expected at least 1`);
  }
  if (prompt >= context) {
    const line = `prompt: found ${prompt} tokens, expected fewer than ${context}, the context`;
    throw new EdgeError("invalid_argument", `${line}; shorten it`);
  }
  if (prompt + maxTokens > context) {
    const line = `maxTokens: found ${maxTokens} behind a prompt of ${prompt}, expected at most`;
    const rest = `${context - prompt} in a context of ${context}; lower it`;
    throw new EdgeError("invalid_argument", `${line} ${rest}`);
  }
}

/**
 * Go on from a prompt with the likeliest token each time.
 *
 * @param cache - An empty one.
 * @param prompt - Token ids.
 * @param limits - Where to stop, and who hears of each token.
 * @param pieces - Turns tokens into text; null where there is no tokenizer.
 * @throws EdgeError as `Cache.read`, or logits are NaN.
 */
export async function decode(
  cache: Cache,
  prompt: readonly number[],
  limits: Limits,
  pieces: Pieces | null,
): Promise<Generation> {
  const start = performance.now();
  const tokens: number[] = [];
  let text = "";
  const take = (logits: ArrayLike<number>): Generation["stoppedBy"] | null => {
    const token = likeliest(logits);
    tokens.push(token);
    limits.onToken?.(token);
    const ends = limits.stopTokens.includes(token);
    const done = ends || tokens.length >= limits.maxTokens;
    const piece = pieces ? (ends ? "" : pieces.add(token)) + (done ? pieces.finish() : "") : "";
    text += piece;
    if (piece) limits.onText?.(piece);
    if (ends) return "stop_token";
    return done ? "max_tokens" : null;
  };
  let stoppedBy = take(await cache.read(prompt));
  const read = performance.now();
  while (!stoppedBy) {
    if (limits.signal?.aborted) {
      text += pieces?.finish() ?? "";
      stoppedBy = "aborted";
    } else {
      stoppedBy = take(await cache.read(tokens.slice(-1)));
    }
  }
  const decodeMs = performance.now() - read;
  const tokensPerS = decodeMs > 0 ? ((tokens.length - 1) * 1000) / decodeMs : 0;
  const prefillMs = read - start;
  return { text, tokens, promptTokens: prompt.length, stoppedBy, prefillMs, decodeMs, tokensPerS };
}

/** Return the id of the largest logit. */
export function likeliest(logits: ArrayLike<number>): number {
  const token = argmax(logits);
  if (!Number.isNaN(logits[token])) return token;
  const line =
    "generation: found logits that are NaN, expected numbers; do not use this bundle here";
  throw new EdgeError("runtime", line);
}
