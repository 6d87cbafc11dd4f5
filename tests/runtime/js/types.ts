// Compiled, never run: each package of onnxruntime is what `EdgeRunner.load` takes, as it is.

import {
  EdgeError,
  EdgeRunner,
  type NativeFiles,
  nativeFolder,
  type Ort,
  picked,
  url,
} from "edge-lra";
import { folder } from "edge-lra/node";
import * as node from "onnxruntime-node";
import * as native from "onnxruntime-react-native";
import * as web from "onnxruntime-web";

// What does not resolve would be `any`, and prove nothing.
type IsAny<T> = 0 extends 1 & T ? true : false;
export const resolved: [
  IsAny<typeof node.Tensor | typeof node.InferenceSession | typeof node.env>,
  IsAny<typeof web.Tensor | typeof web.InferenceSession | typeof web.env>,
  IsAny<typeof native.Tensor | typeof native.InferenceSession | typeof native.env>,
  IsAny<typeof EdgeRunner | typeof folder>,
] = [false, false, false, false];

const hosts: readonly Ort[] = [node, web, native];

// @ts-expect-error - a module without Tensor is no onnxruntime
const noTensor: Ort = { InferenceSession: node.InferenceSession, env: node.env };
// @ts-expect-error - nor is one whose sessions cannot be created
const noSession: Ort = { Tensor: node.Tensor, InferenceSession: {}, env: node.env };

declare const files: NativeFiles;
declare const chosen: FileList;

export async function everyMethod(): Promise<void> {
  const sources = [
    folder("b.edge"),
    url("/b.edge"),
    picked(chosen),
    nativeFolder("/b.edge", files),
  ];
  for (const source of sources) {
    const runner = await EdgeRunner.load(source, {
      ort: hosts[0] as Ort,
      threads: 1,
      verify: "once",
    });
    runner.use(runner.adapters[0] ?? null);
    const { logits } = await runner.run({ input_ids: [[1, 2]], attention_mask: [[1, 1]] });
    const dims: readonly number[] | undefined = logits?.dims;
    const ids = new node.Tensor("int64", new BigInt64Array(2), [1, 2]);
    await runner.run({ input_ids: ids }, { adapter: null });
    const [best] = await runner.classify(["a"], { adapter: "x", pairs: ["b"] });
    const label: string | undefined = best?.label;
    const vectors: Float32Array[] = await runner.embed(["a"]);
    const { text, tokens } = await runner.generate("a", { maxTokens: 8, onText: (piece) => piece });
    const { latencyMs } = await runner.profile({ shape: [1, 128] });
    const { passed } = await runner.checkGolden();
    // @ts-expect-error - texts are an array
    await runner.classify("a");
    // @ts-expect-error - an unknown option
    await runner.run({}, { adaptor: "x" });
    // @ts-expect-error - an unknown way to verify
    await EdgeRunner.load(source, { ort: node, verify: "sometimes" });
    await runner.close();
    void [dims, label, vectors, text, tokens, latencyMs.p50, passed];
  }
  void [noTensor, noSession];
}

export function codeOf(error: unknown): string {
  return error instanceof EdgeError ? error.code : "none";
}
