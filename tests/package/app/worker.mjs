// A worker at the edge: exercises the package for whoever asks, and answers with what it saw.

import * as nearfield from 'nearfield';
import { exercise } from './exercise.mjs';

export default {
  async fetch(_request, { CONFIG }) {
    return Response.json(await exercise(nearfield, CONFIG));
  },
};
