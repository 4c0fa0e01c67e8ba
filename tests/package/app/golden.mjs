// Prints the digest of the module's test build, whose folder it is given.

import { readFileSync } from 'node:fs';
import process from 'node:process';
import { pathToFileURL } from 'node:url';

const folder = process.argv[2];
const { initSync, goldenDigest } = await import(pathToFileURL(`${folder}/nearfield.js`).href);
initSync({ module: readFileSync(`${folder}/nearfield_bg.wasm`) });
console.log(goldenDigest());
