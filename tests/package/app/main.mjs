// The program of Node, Deno and Bun: exercises the package, and prints what it saw.

import * as nearfield from 'nearfield';
import { exercise } from './exercise.mjs';

console.log(JSON.stringify(await exercise(nearfield, JSON.parse(process.env.CONFIG))));
