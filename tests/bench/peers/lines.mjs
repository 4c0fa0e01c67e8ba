// One request a line on standard input, one answer a line on standard output.
import { createInterface } from 'node:readline';

/** Answers requests until the input ends; an error is an answer too. */
export async function serve(answer) {
  for await (const line of createInterface({ input: process.stdin })) {
    let reply;
    try {
      reply = { ok: await answer(JSON.parse(line)) };
    } catch (error) {
      reply = { error: String(error?.stack ?? error) };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
}
