/** Latency and memory of a runner, as an app on this device has them. */

import { EdgeError } from "./errors.js";

/** What to run, and how often. */
export interface ProfileOptions {
  /** Batch and tokens of a run; by default 1x128, or what the model takes at most. */
  readonly shape?: readonly [batch: number, tokens: number];
  /** Of a language model: time the next token behind so many, not prompts of the shape. */
  readonly context?: number;
  /** This many runs; by default as many as fit the budget, at least 5. */
  readonly runs?: number;
  /** Runs before, which are not counted; by default 2. */
  readonly warmup?: number;
  /** No further run after so many milliseconds; by default 5000. */
  readonly budgetMs?: number;
  /** As in `run`. */
  readonly adapter?: string | null;
  /** Called behind each counted run, outside of what is timed. */
  readonly onRun?: (latencyMs: number, memoryMib: number | null) => void | Promise<void>;
}

/** A share of the runs took at most this; between two runs it is interpolated. */
export interface Latency {
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly min: number;
  readonly mean: number;
}

/** What a host tells of its memory, in MiB. */
export interface Memory {
  /** `rss`: the process's resident memory. `js_heap`: JavaScript's objects, without WebAssembly. */
  readonly kind: "rss" | "js_heap";
  readonly beforeMib: number;
  readonly afterMib: number;
  /** The largest seen between runs. */
  readonly peakMib: number;
}

/** What was measured. */
export interface Profile {
  readonly shape: readonly [batch: number, tokens: number];
  readonly context: number | null;
  readonly adapter: string | null;
  readonly onnxruntime: string;
  /** To a runner that can run, files read and hashed. */
  readonly loadMs: number;
  /** The first run after loading. */
  readonly firstRunMs: number;
  readonly latencyMs: Latency;
  /** Of each run, in order. */
  readonly latenciesMs: readonly number[];
  /** null where the host tells nothing, as Safari, Firefox and React Native do. */
  readonly memory: Memory | null;
}

const LEAST_RUNS = 5;
const WARMUP = 2;
const BUDGET_MS = 5000;
const MIB = 2 ** 20;

/** Run something as often as asked; return milliseconds of each run, and memory. */
export async function timeRuns(
  run: () => Promise<unknown>,
  options: ProfileOptions,
): Promise<{ latenciesMs: number[]; memory: Memory | null }> {
  const { runs, warmup = WARMUP, budgetMs = BUDGET_MS } = options;
  checkCount("runs", runs ?? LEAST_RUNS, 1);
  checkCount("warmup", warmup, 0);
  for (let place = 0; place < warmup; place += 1) await run();
  const latenciesMs: number[] = [];
  const seen = [readMemory()];
  const start = performance.now();
  while (!isDone(latenciesMs.length, runs, performance.now() - start >= budgetMs)) {
    const before = performance.now();
    await run();
    const latencyMs = performance.now() - before;
    latenciesMs.push(latencyMs);
    const memory = readMemory();
    seen.push(memory);
    await options.onRun?.(latencyMs, memory?.mib ?? null);
  }
  return { latenciesMs, memory: summary(seen) };
}

function isDone(done: number, runs: number | undefined, isOver: boolean): boolean {
  return runs === undefined ? isOver && done >= LEAST_RUNS : done >= runs;
}

function checkCount(name: string, found: number, least: number): void {
  if (Number.isInteger(found) && found >= least) return;
  throw new EdgeError("invalid_argument", `${name}: found ${found}, expected at least ${least}`);
}

/** Return the percentiles of milliseconds. */
export function latencyOf(latenciesMs: readonly number[]): Latency {
  const ordered = [...latenciesMs].sort((a, b) => a - b);
  const at = (share: number): number => {
    const place = share * (ordered.length - 1);
    const low = ordered[Math.floor(place)] ?? Number.NaN;
    const high = ordered[Math.ceil(place)] ?? Number.NaN;
    return low + (high - low) * (place - Math.floor(place));
  };
  const mean = ordered.reduce((sum, value) => sum + value, 0) / ordered.length;
  return { p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), min: at(0), mean };
}

type Reading = { kind: Memory["kind"]; mib: number } | null;

function readMemory(): Reading {
  const usage = globalThis.process?.memoryUsage;
  if (typeof usage?.rss === "function") return { kind: "rss", mib: usage.rss() / MIB };
  const heap = (performance as { memory?: { usedJSHeapSize?: number } }).memory?.usedJSHeapSize;
  return heap === undefined ? null : { kind: "js_heap", mib: heap / MIB };
}

function summary(seen: readonly Reading[]): Memory | null {
  const known = seen.filter((reading) => reading !== null);
  const [first, last] = [known[0], known.at(-1)];
  if (!first || !last) return null;
  const peakMib = Math.max(...known.map(({ mib }) => mib));
  return { kind: first.kind, beforeMib: first.mib, afterMib: last.mib, peakMib };
}
