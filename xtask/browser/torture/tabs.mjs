// Eight tabs with random events, tabs that come and go, and one that forgets.

import { distinctEvents, rounds } from './site.mjs';

const TABS = 8;
const TURNS = 60;
const SETTLE_MS = 400;

/** With the core in the page, and in a worker. */
export const tabs = rounds((given) => oneRound(given, 'index.js'));
export const workers = rounds((given) => oneRound(given, 'worker.js'));

async function oneRound({ site, context, verdict, round }, entry) {
  const events = distinctEvents();
  /** From when to when each event was being tracked, and the person was being forgotten. */
  const tracked = new Map();
  const forgot = { from: Infinity, to: Infinity };
  const confirmed = site.newPerson({ verdict, losesAnswers: true });
  Object.assign(site.post, {
    '/next': () => events.splice(0, 1 + Math.floor(Math.random() * 2)),
    '/tracked': ({ some, from, to }) => {
      for (const event of some) tracked.set(event, { from, to });
    },
  });
  const pages = await Promise.all(Array.from({ length: TABS }, () => openPage(site, context, entry)));
  const forgetAt = Math.floor(TURNS * (0.3 + 0.4 * Math.random()));
  const working = [];
  for (let turn = 0; turn < TURNS; turn += 1) {
    const at = Math.floor(Math.random() * pages.length);
    const page = pages[at];
    if (turn === forgetAt) {
      forgot.from = Date.now();
      await page.evaluate(() => nf.forget());
      // Until every tab has heard of it, an event may still be learnt about the person of before.
      await new Promise((later) => setTimeout(later, SETTLE_MS));
      forgot.to = Date.now();
    } else if (Math.random() < 0.08) {
      // A tab that is closed without a word, and another one that opens.
      await page.close({ runBeforeUnload: Math.random() < 0.5 });
      pages[at] = await openPage(site, context, entry);
    } else {
      working.push(page.evaluate(learn).catch(ignoreClosed));
      if (Math.random() < 0.5) await new Promise((later) => setTimeout(later, Math.random() * 30));
    }
  }
  await Promise.all(working);
  site.losesAnswers = false;
  const [kept, ...others] = pages;
  await Promise.all(pages.map((page) => page.evaluate(() => nf.flush())));
  await new Promise((later) => setTimeout(later, SETTLE_MS));
  const states = await Promise.all(pages.map((page) => page.evaluate(() => history_(nf))));
  if (new Set(states.map((state) => String(state))).size > 1) verdict.note('other', 1, `round ${round}: the tabs hold different states`);
  await Promise.all(others.map((page) => page.close()));
  if (!(await kept.evaluate(() => tell(nf)))) verdict.note('other', 1, `round ${round}: something could not be sent`);
  await kept.close();
  const fresh = await openPage(site, context, entry);
  const history = await fresh.evaluate(() => history_(nf));
  verdict.compare(new Set([...confirmed].filter((event) => tracked.get(event)?.from > forgot.to)), history, `round ${round}`);
  verdict.compareTold(site, history, `round ${round}`);
  const returned = history.filter((event) => tracked.get(event)?.to < forgot.from);
  verdict.note('returned', returned.length, `round ${round}: ${returned.slice(0, 3)}`);
}

async function openPage(site, context, entry) {
  const page = await context.newPage();
  await site.load(page, entry);
  await page.evaluate(async () => void (window.nf = await Nearfield.open(options)));
  return page;
}

async function learn() {
  const events = await next();
  const from = Date.now();
  track(nf, events);
  navigator.sendBeacon('/tracked', JSON.stringify({ some: events, from, to: Date.now() }));
  if (random(3) === 0) await nf.recommend();
  await nf.flush();
  await post('/confirmed', events);
}

function ignoreClosed(thrown) {
  if (!/closed|destroyed|crashed/i.test(String(thrown))) throw thrown;
}
