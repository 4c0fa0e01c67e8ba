// Runner in Node: `node node.mjs MODULE`.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web';
import { serve } from './lines.mjs';
import { Runner } from './runner.mjs';

ort.env.wasm.numThreads = 1;
const wasm = await readFile(process.argv[2]);
let runner;
await serve(async ({ do: action, ...request }) => {
  if (action === 'open') {
    runner = new Runner((name) => readFile(join(request.folder, name)), ort);
    return runner.open(wasm, request);
  }
  return runner[action](request);
});
