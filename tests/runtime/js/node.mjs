// Answers requests, JSON on standard input, with onnxruntime-node.

import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import * as edge from "../../../runtime/js/dist/index.js";
import { folder } from "../../../runtime/js/dist/sources/node.js";
import { answer } from "./driver.mjs";

const require = createRequire(new URL("../../../runtime/js/package.json", import.meta.url));
const host = {
  edge,
  ort: require("onnxruntime-node"),
  open: folder,
  read: async (path) => new Uint8Array(await readFile(path)),
};
process.stdout.write(JSON.stringify(await answer(JSON.parse(readFileSync(0, "utf8")), host)));
