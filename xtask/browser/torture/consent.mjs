// Consent that is given and taken back at random: what was withheld is never told, what was deleted never
// comes back, and what was kept is not lost.

import { distinctEvents, rounds } from './site.mjs';

const TURNS = 40;
/** A request that was under way when the consent was taken back has arrived by then. */
const ARRIVED_MS = 60;

export const consent = rounds(oneRound);

async function oneRound({ site, context, verdict, round }) {
  const events = distinctEvents();
  /** What central must never hear of. */
  const withheld = new Set();
  let tracked = [];
  let kept = new Set();
  let given = { personalise: true, share: true };
  site.newPerson({ verdict, losesAnswers: true });
  const page = await context.newPage();
  const visit = async (asked) => {
    await site.load(page);
    return page.evaluate(async (asked) => {
      window.nf = await Nearfield.open({ ...options, consent: asked });
      await nf.flush();
      return { history: await history_(nf), consent: nf.inspect().consent };
    }, asked);
  };
  await visit(given);
  for (let turn = 0; turn < TURNS; turn += 1) {
    const choice = Math.random();
    if (choice < 0.6) {
      const some = events.splice(0, 3);
      await page.evaluate(async (some) => {
        track(nf, some);
        await nf.flush();
      }, some);
      tracked.push(...some);
      if (!(given.personalise && given.share)) for (const event of some) withheld.add(event);
      if (given.personalise) kept = new Set(tracked);
      verdict.confirmed += given.personalise ? some.length : 0;
    } else if (choice < 0.9) {
      const changes = Math.random() < 0.6 ? { share: Math.random() < 0.5 } : { personalise: Math.random() < 0.5 };
      const before = given;
      given = { ...given, ...changes };
      await page.evaluate((changes) => nf.consent(changes), changes);
      if (before.personalise && before.share && !(given.personalise && given.share)) {
        await new Promise((later) => setTimeout(later, ARRIVED_MS));
        const told = site.counts();
        for (const event of tracked) if (!told.has(event)) withheld.add(event);
      }
      if (given.personalise && !before.personalise) kept = new Set(tracked);
      if (!given.personalise) {
        kept = new Set();
        const left = await page.evaluate(storedKeys);
        if (left.length > 0) verdict.note('returned', 1, `round ${round}: ${left} are stored without consent`);
      }
    } else {
      const { history, consent } = await visit(undefined);
      if (!given.personalise) {
        given = { personalise: false, share: false };
        tracked = [];
      }
      if (consent.personalise !== given.personalise || consent.share !== (given.personalise && given.share)) {
        verdict.note('other', 1, `round ${round}: the consent was not remembered`);
      }
      verdict.compare(kept, history, `round ${round}, turn ${turn}`);
      verdict.note('returned', history.filter((event) => !kept.has(event)).length, `round ${round}, turn ${turn}: deleted events`);
    }
  }
  site.losesAnswers = false;
  await page.evaluate(() => nf.sync());
  const counts = site.counts();
  const leaked = [...withheld].filter((event) => counts.has(event));
  verdict.note('returned', leaked.length, `round ${round}: told without consent: ${leaked.slice(0, 3)}`);
  verdict.compareTold(site, [], `round ${round}`);
}

async function storedKeys() {
  if (!(await indexedDB.databases()).some(({ name }) => name === 'nearfield:test')) return [];
  const database = await new Promise((done) => {
    const request = indexedDB.open('nearfield:test');
    request.onsuccess = () => done(request.result);
  });
  const request = database.transaction('kept').objectStore('kept').getAllKeys();
  await new Promise((done) => (request.onsuccess = done));
  database.close();
  return request.result;
}
