/** Golden vectors: what every runner of a bundle must answer. The rule is Python's `golden.py`. */

import type { Bundle } from "./bundle.js";
import type { Engine } from "./engine.js";
import { EdgeError } from "./errors.js";
import { likeliest } from "./generate.js";
import type { Manifest } from "./manifest.js";
import { readSafetensors } from "./safetensors.js";
import { argmax } from "./tasks.js";
import { floatsOf, type TensorData, type Tensors } from "./tensors.js";

const FILE = "golden.safetensors";
const SLACK = 1.5; // int8 roundings may flip between kernels
const ROUNDING = 1e-4; // of float32 in a bundle without int8
const CHOICES = ["logits", "start_logits", "end_logits"]; // whose largest entry is the answer

/** One batch with its adapter, the bundle's outputs at export and the float model's. */
export interface GoldenCase {
  readonly adapter: string | null;
  readonly inputs: Tensors;
  readonly outputs: Tensors;
  readonly exact: Tensors;
  /** What a language model greedily goes on with, and each token's lead over the next. */
  readonly greedy: {
    readonly tokens: readonly number[];
    readonly margins: readonly number[];
  } | null;
}

/** A run's answer to a case; of a language model also the tokens, each after the recorded ones. */
export interface Answer {
  readonly outputs: Tensors;
  readonly nextTokens?: readonly number[];
}

/** How far answers to the golden cases are from the recorded ones. */
export interface Comparison {
  readonly cases: number;
  /** The largest distance from the outputs recorded at export. */
  readonly maxAbsError: number;
  /** The largest distance from the float model's outputs. */
  readonly maxAbsErrorFloat: number;
  /** The largest such distance that is allowed: 1.5 times that at export, and the scheme's spread. */
  readonly allowedErrorFloat: number;
  /** Best labels, or next tokens, that are chosen by more than the allowed error. */
  readonly decided: number;
  /** Of them, those that the answers choose too. */
  readonly agreed: number;
  /** Whether the answers are close enough, and a language model's tokens the same. */
  readonly passed: boolean;
}

/** Return a bundle's cases; none if it was not verified at export. */
export async function readGolden(bundle: Bundle): Promise<GoldenCase[]> {
  const { adapters } = bundle.manifest.golden;
  if (!adapters.length) return [];
  const tensors = readSafetensors(await bundle.read(FILE), `${bundle.name}/${FILE}`);
  const below = (prefix: string): Tensors =>
    Object.fromEntries(
      [...tensors]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, tensor]) => [name.slice(prefix.length), tensor]),
    );
  return adapters.map((adapter, place) => {
    const { tokens, margins } = below(`greedy.${place}.`);
    const golden = {
      adapter,
      inputs: below(`input.${place}.`),
      outputs: below(`output.${place}.`),
      exact: below(`float.${place}.`),
      greedy: tokens && margins ? { tokens: numbers(tokens), margins: numbers(margins) } : null,
    };
    if (!isWhole(golden)) {
      const line = `${bundle.name}/${FILE}: found a case without its inputs or answers`;
      throw new EdgeError("damaged", `${line}; export again`);
    }
    return golden;
  });
}

/** Return whether a case has inputs, and the float model's answer to each of the bundle's. */
function isWhole({ inputs, outputs, exact, greedy }: GoldenCase): boolean {
  const names = Object.keys(outputs);
  return (
    Object.keys(inputs).length > 0 &&
    names.length > 0 &&
    names.length === Object.keys(exact).length &&
    names.every((name) => exact[name]?.dims.join() === outputs[name]?.dims.join()) &&
    greedy?.tokens.length === greedy?.margins.length
  );
}

/** Return what an engine answers to a case, with its adapter or with none. */
export async function answerCase(engine: Engine, golden: GoldenCase): Promise<Answer> {
  const adapter = engine.adapters.names.length ? golden.adapter : null;
  if (!engine.manifest.decoder) {
    return { outputs: await (await engine.prepare(golden.inputs, adapter))() };
  }
  const cache = await engine.cache(adapter);
  const prompt = golden.inputs["input_ids"];
  const logits = await cache.read(prompt ? numbers(prompt) : []);
  const nextTokens = [likeliest(logits)];
  for (const token of golden.greedy?.tokens.slice(0, -1) ?? []) {
    nextTokens.push(likeliest(await cache.read([token])));
  }
  const dims = [1, 1, logits.length];
  return { outputs: { logits: { type: "float32", dims, data: logits } }, nextTokens };
}

/** Hold a run's answers, one a case, against the golden cases. */
export function compare(
  cases: readonly GoldenCase[],
  answers: readonly Answer[],
  manifest: Manifest,
): Comparison {
  const errors = { own: 0, float: 0, recorded: 0, largest: 0 };
  const raise = (name: keyof typeof errors, value: number) => {
    // NaN stays, as it must be larger than what is allowed.
    errors[name] = Number.isNaN(value) ? value : Math.max(errors[name], value);
  };
  eachOutput(cases, answers, ({ value, recorded, exact }) => {
    raise("own", distance(value, recorded));
    raise("float", distance(value, exact));
    raise("recorded", distance(recorded, exact));
    raise("largest", distance(exact, null));
  });
  const spread = (manifest.golden.kernel_spread ?? 0) * errors.largest;
  const allowed = SLACK * errors.recorded + spread + ROUNDING;
  const choices = countChoices(cases, answers, manifest, allowed);
  const isClose = errors.float <= allowed;
  return {
    cases: cases.length,
    maxAbsError: errors.own,
    maxAbsErrorFloat: errors.float,
    allowedErrorFloat: allowed,
    ...choices,
    passed: isClose && (!manifest.decoder || choices.agreed === choices.decided),
  };
}

interface Output {
  readonly value: TensorData;
  readonly recorded: TensorData;
  readonly exact: TensorData;
}

function eachOutput(
  cases: readonly GoldenCase[],
  answers: readonly Answer[],
  visit: (output: Output) => void,
): void {
  cases.forEach((golden, place) => {
    for (const [name, recorded] of Object.entries(golden.outputs)) {
      const value = answers[place]?.outputs[name];
      const exact = golden.exact[name];
      if (!value || !exact) {
        const line = `golden: found an answer of ${name}, expected the graph's outputs`;
        throw new EdgeError("damaged", `${line}; export again`);
      }
      visit({ value, recorded, exact });
    }
  });
}

function numbers(tensor: TensorData): number[] {
  return Array.from<number | bigint, number>(tensor.data, Number);
}

/** Return the largest absolute difference of two tensors, or from zero. */
function distance(one: TensorData, other: TensorData | null): number {
  const a = floatsOf(one);
  const b = other ? floatsOf(other) : null;
  if (b && b.length !== a.length) {
    const line = `golden: found ${a.length} numbers of an output, expected ${b.length}`;
    throw new EdgeError("damaged", line);
  }
  let largest = 0;
  for (let place = 0; place < a.length; place += 1) {
    const difference = Math.abs((a[place] as number) - (b ? (b[place] as number) : 0));
    if (Number.isNaN(difference)) return difference;
    if (difference > largest) largest = difference;
  }
  return largest;
}

function countChoices(
  cases: readonly GoldenCase[],
  answers: readonly Answer[],
  manifest: Manifest,
  allowed: number,
): { decided: number; agreed: number } {
  let decided = 0;
  let agreed = 0;
  const count = (margin: number, same: boolean) => {
    if (!(margin > allowed)) return;
    decided += 1;
    if (same) agreed += 1;
  };
  cases.forEach((golden, place) => {
    const answer = answers[place];
    if (!answer) return;
    for (const [exact, found] of choices(golden, answer, manifest.problem_type)) {
      const [first = 0, second = 0] = [...exact].sort((a, b) => b - a);
      count(first - second, argmax(exact) === argmax(found));
    }
    golden.greedy?.margins.forEach((margin, step) => {
      count(margin, answer.nextTokens?.[step] === golden.greedy?.tokens[step]);
    });
  });
  return { decided, agreed };
}

/** Yield rows of the float model and of a run of which the largest entry is the choice. */
function* choices(
  golden: GoldenCase,
  answer: Answer,
  problemType: string | null,
): Generator<[number[], number[]]> {
  if (problemType === "regression") return;
  for (const name of CHOICES) {
    const exact = golden.exact[name];
    const found = answer.outputs[name];
    if (!exact || !found) continue;
    // Where labels are independent, each is a choice between its logit and zero.
    const several = problemType === "multi_label_classification";
    const width = several ? 1 : (exact.dims.at(-1) ?? 1);
    if (width === 1 && !several) continue;
    const [a, b] = [floatsOf(exact), floatsOf(found)];
    for (let start = 0; start < a.length; start += width) {
      const zero = several ? [0] : [];
      const row = (values: ArrayLike<number>) =>
        Array.from({ length: width }, (_, place) => values[start + place] as number).concat(zero);
      yield [row(a), row(b)];
    }
  }
}
