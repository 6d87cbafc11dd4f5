/** From a bundle's outputs to labels and vectors. */

import { EdgeError } from "./errors.js";

/** The best label, its score, and the scores of all; a regression's score is its value. */
export interface Classification {
  readonly label: string;
  readonly score: number;
  readonly scores: Readonly<Record<string, number>>;
}

/** Return probabilities. */
export function softmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/**
 * Score one row of logits.
 *
 * As in transformers' losses, a single logit without a problem type is a regression.
 */
export function classification(
  logits: ArrayLike<number>,
  labels: readonly string[] | null,
  problemType: string | null,
): Classification {
  const names = labelNames(labels, logits.length);
  const values = scored(logits, problemType);
  const best = argmax(values);
  return {
    label: names[best] as string,
    score: values[best] as number,
    scores: Object.fromEntries(names.map((name, place) => [name, values[place] as number])),
  };
}

function scored(logits: ArrayLike<number>, problemType: string | null): number[] {
  if (problemType === "regression" || (problemType === null && logits.length === 1)) {
    return Array.from(logits);
  }
  if (problemType === "multi_label_classification") {
    // The sigmoid, without an overflow.
    return Array.from(logits, (value) => 0.5 * (1 + Math.tanh(0.5 * value)));
  }
  return softmax(logits);
}

function labelNames(labels: readonly string[] | null, count: number): readonly string[] {
  const names = labels?.length
    ? labels
    : Array.from({ length: count }, (_, place) => `LABEL_${place}`);
  if (names.length === count) return names;
  const line = `labels: found ${names.length}, expected ${count}, one an output`;
  throw new EdgeError("damaged", line);
}

/** Return the place of the largest value, the first of equals; NaN wins, as it does in numpy. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let place = 0; place < values.length; place += 1) {
    const value = values[place] as number;
    if (Number.isNaN(value)) return place;
    if (value > (values[best] as number)) best = place;
  }
  return best;
}

/**
 * Return one vector from the hidden states of a text's tokens.
 *
 * @param hidden - (tokens, width), row by row.
 * @param width - Of a token's state.
 * @param pooling - The manifest's: mean, cls or max, and whether the vector's length is made 1.
 */
export function pool(
  hidden: ArrayLike<number>,
  width: number,
  pooling: { readonly mode: string; readonly normalize?: boolean },
): Float32Array {
  const tokens = hidden.length / width;
  const vector = new Float64Array(width);
  const at = (token: number, place: number) => hidden[token * width + place] as number;
  for (let place = 0; place < width; place += 1) {
    let value = at(0, place);
    for (let token = 1; token < tokens && pooling.mode !== "cls"; token += 1) {
      value = pooling.mode === "max" ? Math.max(value, at(token, place)) : value + at(token, place);
    }
    vector[place] = pooling.mode === "mean" ? value / tokens : value;
  }
  if (!["mean", "cls", "max"].includes(pooling.mode)) {
    const line = `pooling: found ${JSON.stringify(pooling.mode)}, expected mean, cls or max`;
    throw new EdgeError("unsupported", line);
  }
  if (!pooling.normalize) return Float32Array.from(vector);
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return Float32Array.from(vector, (value) => value / Math.max(length, 1e-12));
}
