/**
 * What this package needs of onnxruntime: an interface that `onnxruntime-node`, `onnxruntime-web` and
 * `onnxruntime-react-native` satisfy as they are. An app passes the one it has to `EdgeRunner.load`.
 */

import type { ElementType, TensorData, TypedArray } from "./tensors.js";

/** A tensor of onnxruntime. */
export interface OrtTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/** The options that are set; each host ignores those it does not know. */
export interface OrtSessionOptions {
  executionProviders: readonly string[];
  interOpNumThreads: number;
  intraOpNumThreads?: number;
  logSeverityLevel: 0 | 1 | 2 | 3 | 4;
  externalData?: readonly { path: string; data: Uint8Array }[];
  extra: Record<string, string>;
}

/** A session of onnxruntime. */
export interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(
    feeds: { readonly [name: string]: never },
    fetches: readonly string[],
  ): Promise<{ readonly [name: string]: unknown }>;
  release(): Promise<void>;
}

/** The module of onnxruntime, as `import * as ort from "onnxruntime-…"` gives it. */
export interface Ort {
  readonly Tensor: new (type: ElementType, data: TypedArray, dims: readonly number[]) => OrtTensor;
  readonly InferenceSession: {
    create(path: string, options?: OrtSessionOptions): Promise<OrtSession>;
    create(bytes: Uint8Array, options?: OrtSessionOptions): Promise<OrtSession>;
  };
  readonly env: {
    readonly versions: {
      readonly common: string;
      readonly web?: string;
      readonly node?: string;
      readonly "react-native"?: string;
    };
    readonly wasm: { numThreads?: number };
  };
}

/** Return onnxruntime's release, as "MAJOR.MINOR.PATCH". */
export function ortVersion(ort: Ort): string {
  const { common, node, web } = ort.env.versions;
  return ort.env.versions["react-native"] ?? node ?? web ?? common;
}

/** Return whether onnxruntime is the one compiled to WebAssembly. */
export function isWeb(ort: Ort): boolean {
  return ort.env.versions.web !== undefined;
}

/** Make a tensor of onnxruntime over the same memory. */
export function toOrt(ort: Ort, tensor: TensorData): OrtTensor {
  return new ort.Tensor(tensor.type, tensor.data, tensor.dims);
}
