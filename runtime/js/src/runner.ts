/** The runner: a bundle with its adapters, its texts and its checks. */

import type { Tokenized } from "./batches.js";
import { Bundle, type Verify } from "./bundle.js";
import { Engine } from "./engine.js";
import { EdgeError } from "./errors.js";
import { checkRoom, decode, type Generation } from "./generate.js";
import { answerCase, type Comparison, compare, readGolden } from "./golden.js";
import type { Inputs } from "./inputs.js";
import type { DecoderEntry, Manifest } from "./manifest.js";
import { type Ort, ortVersion } from "./ort.js";
import { Pieces } from "./pieces.js";
import { latencyOf, type Profile, type ProfileOptions, timeRuns } from "./profile.js";
import { Session } from "./session.js";
import type { BundleSource } from "./source.js";
import { type Classification, classification, pool } from "./tasks.js";
import { floatsOf, type TensorData, type Tensors } from "./tensors.js";
import { workOf } from "./work.js";

const MAX_TOKENS = 256;
const PROFILE_TOKENS = 128;

/** How to load a bundle. */
export interface LoadOptions {
  /** The app's module of onnxruntime: `import * as ort from "onnxruntime-…"`. */
  readonly ort: Ort;
  /** Threads within an operator, 1 to 1024; left out, onnxruntime decides. */
  readonly threads?: number;
  /** When files are hashed; "once" by default. */
  readonly verify?: Verify;
}

/** Which adapter a call uses: a name, null for none, left out for the default of `use`. */
export interface AdapterOption {
  readonly adapter?: string | null;
}

export interface TextOptions extends AdapterOption {
  /** What follows each text, for models that read pairs; one a text. */
  readonly pairs?: readonly string[];
}

export interface GenerateOptions extends AdapterOption {
  /** The most new tokens (256); null goes on to a stop token or the context's end. */
  readonly maxTokens?: number | null;
  /** Tokens that end the text; left out the model's own, [] none. */
  readonly stopTokens?: readonly number[];
  /** Called with each piece of text as it comes, whole characters always. */
  readonly onText?: (piece: string) => void;
  /** Called with each token as it comes. */
  readonly onToken?: (token: number) => void;
  /** Ends the generation before the next token; what came so far is returned. */
  readonly signal?: AbortSignal;
}

/**
 * A loaded bundle.
 *
 * Calls may overlap; onnxruntime runs them one after another. An instance belongs to the thread
 * that loaded it: a worker loads its own.
 */
export class EdgeRunner {
  readonly manifest: Manifest;
  readonly #engine: Engine;
  readonly #onnxruntime: string;
  readonly #loadMs: number;
  #default: string | null = null;

  private constructor(engine: Engine, onnxruntime: string, started: number) {
    this.manifest = engine.manifest;
    this.#engine = engine;
    this.#onnxruntime = onnxruntime;
    this.use(this.adapters.length ? this.manifest.default_adapter : null);
    this.#loadMs = performance.now() - started;
  }

  /**
   * Open a bundle.
   *
   * @param source - `folder(path)` of "edge-lra/node", `url(base)`, `picked(files)` or
   *   `nativeFolder(path, files)`.
   * @throws EdgeError no bundle, damaged, of another format, or it needs a newer onnxruntime.
   */
  static async load(source: BundleSource, options: LoadOptions): Promise<EdgeRunner> {
    const started = performance.now();
    const bundle = await Bundle.open(source, options.verify);
    const session = await Session.open(options.ort, bundle, options.threads);
    return new EdgeRunner(new Engine(bundle, session), ortVersion(options.ort), started);
  }

  /** The token inputs `run` takes. */
  get inputNames(): readonly string[] {
    return this.manifest.inputs.map((node) => node.name);
  }

  /** The outputs `run` gives. */
  get outputNames(): readonly string[] {
    return this.manifest.outputs.map((node) => node.name);
  }

  /** The adapters one can choose. */
  get adapters(): readonly string[] {
    return this.#engine.adapters.names;
  }

  /** The adapter of a call that names none. */
  get defaultAdapter(): string | null {
    return this.#default;
  }

  /** Set the default adapter; null turns the factors off. An unknown name is an error at once. */
  use(adapter: string | null): void {
    if (adapter !== null) this.#engine.adapters.checkName(adapter);
    this.#default = adapter;
  }

  /** The same as `use`, by its name in the other languages' runners. */
  setAdapter(adapter: string | null): void {
    this.use(adapter);
  }

  /**
   * Run one batch.
   *
   * @param inputs - Tensors (batch, sequence) or nested arrays by input name; integers of any width
   *   serve as ids, and missing `token_type_ids` are zeros.
   * @returns The outputs by name.
   * @throws EdgeError an input is missing, unknown or ill-shaped, the adapter is unknown, or closed.
   */
  async run(inputs: Inputs, options: AdapterOption = {}): Promise<Tensors> {
    return (await this.#engine.prepare(inputs, this.#chosen(options)))();
  }

  /** Return the inputs of one batch, padded to the longest, and how many texts were cut. */
  async tokenize(texts: readonly string[], options: TextOptions = {}): Promise<Tokenized> {
    return (await this.#engine.batches()).padded(texts, options.pairs);
  }

  /** Return label, score and all scores for each text. */
  async classify(texts: readonly string[], options: TextOptions = {}): Promise<Classification[]> {
    this.#expect("classify", "sequence-classification");
    const adapter = this.#chosen(options);
    const rows = await this.#engine.rows(texts, options.pairs, adapter);
    const labels = this.#engine.adapters.labels(adapter);
    return rows.map((row) => {
      const logits = row["logits"];
      if (!logits)
        throw new EdgeError("damaged", `${this.#engine.bundle.name}: has no output logits`);
      return classification(floatsOf(logits), labels, this.manifest.problem_type);
    });
  }

  /** Return one vector a text, pooled as the manifest says. */
  async embed(texts: readonly string[], options: AdapterOption = {}): Promise<Float32Array[]> {
    this.#expect("embed", "sentence-embedding", "feature-extraction");
    const rows = await this.#engine.rows(texts, undefined, this.#chosen(options));
    const pooling = this.manifest.pooling ?? { mode: "mean", normalize: false };
    const name = this.outputNames[0] as string;
    return rows.map((row) => {
      const hidden = row[name] as TensorData;
      return pool(floatsOf(hidden), hidden.dims.at(-1) ?? 1, pooling);
    });
  }

  /**
   * Go on from a prompt with the likeliest token each time.
   *
   * @param prompt - Text, or token ids.
   * @throws EdgeError the prompt is empty, too long or holds unknown ids, or the bundle is no
   *   language model's.
   */
  async generate(
    prompt: string | readonly number[],
    options: GenerateOptions = {},
  ): Promise<Generation> {
    this.#expect("generate", "text-generation");
    const decoder = this.manifest.decoder as DecoderEntry; // which the task implies
    const cache = await this.#engine.cache(this.#chosen(options));
    const needed = typeof prompt === "string" || options.onText !== undefined;
    const tokens = needed ? await this.#engine.tokens() : await this.#engine.tokensIfKnown();
    const ids = typeof prompt === "string" ? (tokens?.encode(prompt).ids ?? []) : prompt;
    if (!prompt.length || !ids.length) {
      throw new EdgeError("invalid_argument", "prompt: found it empty, expected text or token ids");
    }
    const { maxTokens = MAX_TOKENS, stopTokens = decoder.eos_token_ids } = options;
    const limit = maxTokens ?? Math.max(1, decoder.context_length - ids.length);
    checkRoom(decoder, ids.length, limit);
    const pieces = tokens ? new Pieces((part) => tokens.decode(part), ids) : null;
    const { onText, onToken, signal } = options;
    return decode(cache, ids, { maxTokens: limit, stopTokens, onText, onToken, signal }, pieces);
  }

  /**
   * Measure latency and memory on this device.
   *
   * Token ids are random, with every token attended. A language model reads prompts of the shape
   * into an empty cache, or gives the token behind `context`.
   */
  async profile(options: ProfileOptions = {}): Promise<Profile> {
    const { shape = [1, this.#profileTokens()], context } = options;
    const adapter = this.#chosen(options);
    const { before, run } = await workOf(this.#engine, shape, context, adapter);
    await before();
    if (this.#engine.session.firstRunMs === null) await run();
    const { latenciesMs, memory } = await timeRuns(run, options);
    return {
      shape,
      context: context ?? null,
      adapter,
      onnxruntime: this.#onnxruntime,
      loadMs: this.#loadMs,
      firstRunMs: this.#engine.session.firstRunMs ?? Number.NaN,
      latencyMs: latencyOf(latenciesMs),
      latenciesMs,
      memory,
    };
  }

  /**
   * Run the golden cases and compare with what the bundle and the float model answered at export.
   *
   * @returns How far off the answers are, and whether that is allowed; 0 cases for a bundle that
   *   was not verified.
   */
  async checkGolden(): Promise<Comparison> {
    this.#engine.session.checkOpen();
    const cases = await readGolden(this.#engine.bundle);
    const answers = [];
    for (const golden of cases) answers.push(await answerCase(this.#engine, golden));
    return compare(cases, answers, this.manifest);
  }

  /** Free the session once the calls under way are over; every later call is an error. */
  async close(): Promise<void> {
    await this.#engine.session.close();
  }

  #profileTokens(): number {
    const most = this.manifest.decoder?.context_length ?? this.manifest.max_length;
    return Math.min(PROFILE_TOKENS, most ?? PROFILE_TOKENS);
  }

  #chosen(options: AdapterOption): string | null {
    return options.adapter === undefined ? this.#default : options.adapter;
  }

  #expect(method: string, ...tasks: string[]): void {
    const { task } = this.manifest;
    if (tasks.includes(task)) return;
    const line = `${method}: the bundle's task is ${task}, expected ${tasks.join(" or ")}`;
    throw new EdgeError("unsupported", line);
  }
}
