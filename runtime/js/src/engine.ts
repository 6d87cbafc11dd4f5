/** An open bundle as the runner's methods use it: runs, caches and texts, each with an adapter. */

import { AdapterStore } from "./adapters.js";
import { Batches } from "./batches.js";
import type { Bundle } from "./bundle.js";
import { Cache, decoderFeeds, emptyPast } from "./cache.js";
import { EdgeError } from "./errors.js";
import { checkInputs, type Inputs } from "./inputs.js";
import type { Manifest } from "./manifest.js";
import type { Session } from "./session.js";
import type { Tensors } from "./tensors.js";
import { Tokens } from "./tokens.js";

/** A bundle, its session and its adapters. */
export class Engine {
  readonly bundle: Bundle;
  readonly session: Session;
  readonly adapters: AdapterStore;
  #tokens: Promise<Tokens> | null = null;

  constructor(bundle: Bundle, session: Session) {
    this.bundle = bundle;
    this.session = session;
    this.adapters = new AdapterStore(bundle);
  }

  get manifest(): Manifest {
    return this.bundle.manifest;
  }

  /** Check one batch and return the function that runs it, as often as it is called. */
  async prepare(inputs: Inputs, adapter: string | null): Promise<() => Promise<Tensors>> {
    this.session.checkOpen();
    const factors = await this.adapters.tensors(adapter);
    const checked = checkInputs(inputs, this.manifest);
    const { decoder, outputs } = this.manifest;
    const rows = checked["input_ids"]?.dims[0] ?? 1;
    const rest = decoder
      ? { ...decoderFeeds(decoder, factors, rows), ...emptyPast(decoder, rows) }
      : factors;
    const feeds = { ...checked, ...rest };
    const names = outputs.map((node) => node.name);
    return () => this.session.run(feeds, names);
  }

  /** Return a language model's empty cache. */
  async cache(adapter: string | null): Promise<Cache> {
    this.session.checkOpen();
    return new Cache(this.session, this.manifest, await this.adapters.tensors(adapter));
  }

  /** Return the bundle's tokenizer, read when it is first needed. */
  tokens(): Promise<Tokens> {
    this.session.checkOpen();
    this.#tokens ??= Tokens.open(this.bundle).catch((error: unknown) => {
      this.#tokens = null; // what a broken connection failed to read is tried again
      throw error;
    });
    return this.#tokens;
  }

  /** Return the tokenizer, or null where there is none or the library does not know its kind. */
  async tokensIfKnown(): Promise<Tokens | null> {
    try {
      return await this.tokens();
    } catch (error) {
      if (error instanceof EdgeError && error.code === "unsupported") return null;
      throw error;
    }
  }

  /** Return what makes batches of texts. */
  async batches(): Promise<Batches> {
    return new Batches(await this.tokens(), this.manifest);
  }

  /** Run texts in batches of one length; return each text's outputs in the caller's order. */
  async rows(
    texts: readonly string[],
    pairs: readonly string[] | undefined,
    adapter: string | null,
  ): Promise<Tensors[]> {
    await this.adapters.tensors(adapter); // a bad adapter is an error for an empty list too
    const rows: Tensors[] = [];
    for (const { places, inputs } of (await this.batches()).ofOneLength(texts, pairs)) {
      const outputs = await (await this.prepare(inputs, adapter))();
      places.forEach((place, row) => {
        rows[place] = rowOf(outputs, row);
      });
    }
    return rows;
  }
}

/** Return one row of a batch's outputs. */
function rowOf(outputs: Tensors, row: number): Tensors {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { type, dims, data }]) => {
      const [rows = 1, ...rest] = dims;
      const size = data.length / rows;
      return [name, { type, dims: rest, data: data.subarray(row * size, (row + 1) * size) }];
    }),
  );
}
