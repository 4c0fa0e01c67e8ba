// The script of a page: exercises the package, and leaves what it saw where the test reads it.

import * as nearfield from 'nearfield';
import { exercise } from './exercise.mjs';

exercise(nearfield, JSON.parse(new URLSearchParams(location.search).get('config')), 'indexeddb').then(
  (seen) => (globalThis.seen = { seen }),
  ({ name, code, message }) => (globalThis.seen = { thrown: `${name} ${code}: ${message}` }),
);
