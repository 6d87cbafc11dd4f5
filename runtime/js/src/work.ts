/** What a profile runs: a batch of tokens, a language model's prompts, or its next token. */

import type { Engine } from "./engine.js";
import { EdgeError } from "./errors.js";
import { likeliest } from "./generate.js";
import type { Inputs } from "./inputs.js";
import type { TensorData } from "./tensors.js";

type Run = () => Promise<unknown>;
type Shape = readonly [rows: number, tokens: number];

/** What is timed, and what comes before it: a context that is read, or nothing. */
export interface Work {
  readonly before: Run;
  readonly run: Run;
}

/** Return the work of a shape, or of the token behind a context. */
export async function workOf(
  engine: Engine,
  shape: Shape,
  context: number | undefined,
  adapter: string | null,
): Promise<Work> {
  for (const size of context === undefined ? shape : [context]) {
    if (Number.isInteger(size) && size >= 1) continue;
    throw new EdgeError("invalid_argument", `shape: found ${size}, expected at least 1`);
  }
  const { decoder, vocabulary_size: size } = engine.manifest;
  const vocabulary = size ?? 2;
  const before = async () => {};
  if (decoder) {
    if (context !== undefined) return nextToken(engine, context, vocabulary, adapter);
    return { before, run: prompts(engine, shape, vocabulary, adapter) };
  }
  if (context !== undefined) {
    const line = `context: found ${context} for ${engine.bundle.name}, which generates no text`;
    throw new EdgeError("invalid_argument", `${line}, expected a language model's bundle`);
  }
  return { before, run: await engine.prepare(randomInputs(engine, shape, vocabulary), adapter) };
}

/** Read prompts into empty caches, one after another. */
function prompts(
  engine: Engine,
  [rows, tokens]: Shape,
  vocabulary: number,
  adapter: string | null,
): Run {
  const ids = Array.from(randomIds(rows * tokens, vocabulary), Number);
  return async () => {
    for (let row = 0; row < rows; row += 1) {
      const cache = await engine.cache(adapter);
      await cache.read(ids.slice(row * tokens, (row + 1) * tokens));
    }
  };
}

/** Find the likeliest token behind a context that stays as long. */
async function nextToken(
  engine: Engine,
  context: number,
  vocabulary: number,
  adapter: string | null,
): Promise<Work> {
  const cache = await engine.cache(adapter);
  const ids = Array.from(randomIds(context, vocabulary), Number);
  let next = 0;
  return {
    before: async () => {
      next = likeliest(await cache.read(ids));
    },
    run: async () => {
      next = likeliest(await cache.peek(next));
    },
  };
}

/** Return random ids with every token attended. */
function randomInputs(engine: Engine, [rows, tokens]: Shape, vocabulary: number): Inputs {
  const inputs: Record<string, TensorData> = {};
  const count = rows * tokens;
  for (const { name, dtype, shape } of engine.manifest.inputs) {
    if (dtype !== "int64" || shape.length !== 2) {
      const line = `${name}: found ${dtype}[${shape.join(",")}], expected tokens, int64[rows,tokens]`;
      throw new EdgeError("unsupported", `${line}; time runs of your own`);
    }
    const fill = name === "attention_mask" ? 1n : 0n;
    const isIds = name === "input_ids";
    const data = isIds ? randomIds(count, vocabulary) : new BigInt64Array(count).fill(fill);
    inputs[name] = { type: "int64", dims: [rows, tokens], data };
  }
  return inputs;
}

/** Return ids of 1 to below the vocabulary's size, the same ones every time. */
function randomIds(count: number, vocabulary: number): BigInt64Array {
  let state = 0;
  return BigInt64Array.from({ length: count }, () => {
    // mulberry32, by Tommy Ettinger: 32 bits of state, good enough to vary embeddings.
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    const uniform = ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    return BigInt(1 + Math.floor(uniform * (vocabulary - 1)));
  });
}
