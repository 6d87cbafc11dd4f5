/** A bundle's session, opened as its manifest asks and held against it. */

import type { Bundle } from "./bundle.js";
import { EdgeError, wrapped } from "./errors.js";
import type { Manifest } from "./manifest.js";
import {
  isWeb,
  type Ort,
  type OrtSession,
  type OrtSessionOptions,
  ortVersion,
  toOrt,
} from "./ort.js";
import { isElementType, type TensorData, type Tensors, type TypedArray } from "./tensors.js";

const MAX_THREADS = 1024;

/** A session that takes and gives this package's tensors. */
export class Session {
  readonly #ort: Ort;
  readonly #name: string;
  #session: OrtSession | null;
  #running = 0;
  #firstRunMs: number | null = null;
  #idle: (() => void) | null = null;

  private constructor(ort: Ort, name: string, session: OrtSession) {
    this.#ort = ort;
    this.#name = name;
    this.#session = session;
  }

  /**
   * Open a bundle's graph for the CPU.
   *
   * @throws EdgeError onnxruntime is too old or cannot open it, or graph and manifest disagree.
   */
  static async open(ort: Ort, bundle: Bundle, threads: number | undefined): Promise<Session> {
    checkVersion(ort, bundle);
    const options = sessionOptions(ort, bundle.manifest, threads);
    const { model, external } = await bundle.model();
    let session: OrtSession;
    try {
      const all = external.length ? { ...options, externalData: external } : options;
      // The two overloads are one to whoever has either.
      session = await ort.InferenceSession.create(model as Uint8Array, all);
    } catch (error) {
      throw wrapped(error, `${bundle.name}: onnxruntime cannot open it`);
    }
    try {
      checkGraph(bundle, session);
    } catch (error) {
      await session.release();
      throw error;
    }
    return new Session(ort, bundle.name, session);
  }

  /**
   * Run the graph once.
   *
   * @param feeds - All inputs of the graph by name.
   * @param outputs - Names of the outputs to compute.
   * @throws EdgeError `closed`, or what onnxruntime says.
   */
  async run(feeds: Tensors, outputs: readonly string[]): Promise<Tensors> {
    const session = this.checkOpen();
    const given: Record<string, never> = {};
    this.#running += 1;
    const start = performance.now();
    try {
      // `never`: each host has a class of its own, and takes only that; these are of it.
      for (const [name, tensor] of Object.entries(feeds))
        given[name] = toOrt(this.#ort, tensor) as never;
      const found = await session.run(given, outputs);
      this.#firstRunMs ??= performance.now() - start;
      return Object.fromEntries(outputs.map((name) => [name, fromOrt(found[name], name)]));
    } catch (error) {
      throw wrapped(error, `${this.#name}: the run failed`);
    } finally {
      this.#running -= 1;
      if (this.#running === 0) this.#idle?.();
    }
  }

  /** How long the first run took; null before it. */
  get firstRunMs(): number | null {
    return this.#firstRunMs;
  }

  /** Return onnxruntime's session; throw `closed` if there is none any more. */
  checkOpen(): OrtSession {
    if (this.#session) return this.#session;
    throw new EdgeError("closed", `${this.#name}: is closed, expected it open; load it again`);
  }

  /** Free the session once the runs under way are over; later runs are refused at once. */
  async close(): Promise<void> {
    const session = this.#session;
    if (!session) return;
    this.#session = null;
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await session.release();
  }
}

function fromOrt(value: unknown, name: string): TensorData {
  const { type, dims, data } = value as { type: unknown; dims: readonly number[]; data: unknown };
  if (!isElementType(type)) {
    throw new EdgeError(
      "unsupported",
      `${name}: found a tensor of ${String(type)}, expected numbers`,
    );
  }
  return { type, dims, data: data as TypedArray };
}

function checkVersion(ort: Ort, bundle: Bundle): void {
  const minimum = bundle.manifest.min_onnxruntime;
  const found = ortVersion(ort);
  if (!minimum || !isOlder(found, minimum)) return;
  throw new EdgeError(
    "unsupported",
    `${bundle.name}: found onnxruntime ${found}, expected ${minimum} or newer; update its package`,
  );
}

function isOlder(found: string, minimum: string): boolean {
  const [a, b] = [found, minimum].map((text) => (text.match(/\d+/g) ?? []).slice(0, 3).map(Number));
  for (let place = 0; place < 3; place += 1) {
    const difference = (a?.[place] ?? 0) - (b?.[place] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function sessionOptions(
  ort: Ort,
  manifest: Manifest,
  threads: number | undefined,
): OrtSessionOptions {
  if (
    threads !== undefined &&
    !(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)
  ) {
    throw new EdgeError(
      "invalid_argument",
      `threads: found ${threads}, expected 1 to ${MAX_THREADS}`,
    );
  }
  const extra: Record<string, string> = {};
  for (const [key, value] of Object.entries(manifest.session_options)) {
    extra[key] = typeof value === "boolean" ? String(Number(value)) : String(value);
  }
  if (isWeb(ort)) setWebThreads(ort, threads);
  return {
    executionProviders: [isWeb(ort) ? "wasm" : "cpu"],
    interOpNumThreads: 1,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
    logSeverityLevel: 3,
    extra,
  };
}

/**
 * Give WebAssembly its threads, which a page has once: the first session decides.
 *
 * Without cross-origin isolation a page has no shared memory, and onnxruntime would only warn.
 */
function setWebThreads(ort: Ort, threads: number | undefined): void {
  const isolated = globalThis.crossOriginIsolated === true;
  if (threads !== undefined && threads > 1 && !isolated) {
    throw new EdgeError(
      "unsupported",
      `threads: found ${threads}, expected 1 in a page that is not cross-origin isolated; ` +
        "serve it with COOP and COEP headers",
    );
  }
  const { wasm } = ort.env;
  if (threads !== undefined) wasm.numThreads = threads;
  else if (!isolated) wasm.numThreads = 1;
}

/** Raise unless the graph's inputs and outputs are those that the manifest tells of. */
function checkGraph(bundle: Bundle, session: OrtSession): void {
  const { manifest, name } = bundle;
  const { decoder } = manifest;
  const inputs = new Set([
    ...manifest.inputs.map((node) => node.name),
    ...manifest.adapter_inputs.map((node) => node.name),
    ...(decoder?.cache.map((entry) => entry.past) ?? []),
    ...(decoder?.adapter_index ? [decoder.adapter_index] : []),
  ]);
  const found = new Set(session.inputNames);
  const odd = [...inputs, ...found].filter((input) => !inputs.has(input) || !found.has(input));
  if (odd.length) throw disagree(name, "inputs", odd);
  const outputs = [
    ...manifest.outputs.map((node) => node.name),
    ...(decoder?.cache.map((entry) => entry.present) ?? []),
  ];
  const missing = outputs.filter((output) => !session.outputNames.includes(output));
  if (missing.length) throw disagree(name, "outputs", missing);
}

function disagree(name: string, what: string, odd: readonly string[]): EdgeError {
  const names = [...odd].sort().join(", ");
  return new EdgeError("damaged", `${name}: graph and manifest disagree on ${what}: ${names}`);
}
