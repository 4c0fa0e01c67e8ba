// Windows whose browser refuses a database, as private ones may: the visit goes on in memory.

import { distinctEvents, rounds } from './site.mjs';

const REFUSALS = [
  () => {
    IDBFactory.prototype.open = () => {
      throw new DOMException('refused', 'SecurityError');
    };
  },
  () => {
    IDBFactory.prototype.open = () => {
      const request = new EventTarget();
      setTimeout(() => {
        Object.defineProperty(request, 'error', { value: new DOMException('refused', 'InvalidStateError') });
        request.dispatchEvent(new Event('error'));
      });
      return Object.setPrototypeOf(request, IDBOpenDBRequest.prototype);
    };
  },
  () => void Object.defineProperty(globalThis, 'indexedDB', { value: undefined }),
  () => delete globalThis.BroadcastChannel,
  () => Object.defineProperty(navigator, 'locks', { value: undefined }),
];

export const refused = rounds(oneRound);

async function oneRound({ site, context, verdict, round }) {
  await context.addInitScript(REFUSALS[round % REFUSALS.length]);
  const events = distinctEvents();
  const tracked = [];
  site.newPerson({ verdict, losesAnswers: true });
  site.post['/next'] = () => {
    const some = events.splice(0, 5);
    tracked.push(...some);
    return some;
  };
  const page = await context.newPage();
  await site.load(page);
  const history = await page.evaluate(async () => {
    window.nf = await Nearfield.open(options);
    for (let turn = 0; turn < 10; turn += 1) {
      track(nf, await next());
      await nf.flush();
      if (nf.recommend().length === 0) throw new Error('there is no list');
    }
    return history_(nf);
  });
  verdict.confirmed += tracked.length;
  verdict.compare(new Set(tracked), history, `round ${round}`);
  site.losesAnswers = false;
  if (!(await page.evaluate(() => tell(nf)))) verdict.note('other', 1, `round ${round}: something could not be sent`);
  verdict.compareTold(site, history, `round ${round}`);
}
