/** Run edge-lra bundles, with their adapters, in Node, browsers and React Native. */

export type { Tokenized } from "./batches.js";
export type { Verify } from "./bundle.js";
export { EdgeError, type ErrorCode } from "./errors.js";
export type { Generation } from "./generate.js";
export type { Comparison } from "./golden.js";
export type { Inputs, InputValue, Nested } from "./inputs.js";
export type { Manifest } from "./manifest.js";
export type { Ort, OrtSession, OrtSessionOptions, OrtTensor } from "./ort.js";
export type { Latency, Memory, Profile, ProfileOptions } from "./profile.js";
export {
  type AdapterOption,
  EdgeRunner,
  type GenerateOptions,
  type LoadOptions,
  type TextOptions,
} from "./runner.js";
export { readSafetensors } from "./safetensors.js";
export type { BundleSource, FileStat } from "./source.js";
export { type NativeFiles, nativeFolder } from "./sources/native.js";
export { picked } from "./sources/picked.js";
export { type UrlOptions, url } from "./sources/url.js";
export type { Classification } from "./tasks.js";
export type { ElementType, TensorData, Tensors, TypedArray } from "./tensors.js";
