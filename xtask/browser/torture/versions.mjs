// The package is downgraded and upgraded again: a newer state must survive the older package.

import { distinctEvents, rounds } from './site.mjs';

export const versions = rounds(oneRound);

async function oneRound({ site, context, verdict, round }) {
  const events = distinctEvents();
  site.newPerson({ verdict, losesAnswers: false });
  site.post['/next'] = () => events.splice(0, 5);
  const page = await context.newPage();
  await site.load(page);
  const { before, kept, codes, after } = await page.evaluate(async () => {
    const edit = async (change) => {
      const database = await new Promise((done) => {
        const request = indexedDB.open('nearfield:test');
        request.onsuccess = () => done(request.result);
      });
      const store = database.transaction('kept', 'readwrite').objectStore('kept');
      const state = await new Promise((done) => {
        const request = store.get('state');
        request.onsuccess = () => done(request.result);
      });
      const changed = change(state);
      if (changed) store.put(changed, 'state');
      await new Promise((done) => (store.transaction.oncomplete = done));
      database.close();
      return state;
    };
    const schema = (number) => (state) => {
      const changed = state.slice();
      new DataView(changed.buffer).setUint16(4, number, true);
      return changed;
    };
    let nf = await Nearfield.open(options);
    for (let turn = 0; turn <= random(5); turn += 1) track(nf, await next());
    const before = await history_(nf);
    await nf.close();
    const own = new DataView((await edit(() => undefined)).buffer).getUint16(4, true);
    await edit(schema(0xffff));
    const newer = await edit(() => undefined);
    const codes = [];
    for (let visit = 0; visit <= random(3); visit += 1) {
      nf = await Nearfield.open(options);
      nf.on('error', ({ code }) => codes.push(code));
      track(nf, await next());
      await nf.flush();
      await nf.close();
    }
    const kept = String(await edit(schema(own))) === String(newer);
    nf = await Nearfield.open(options);
    const after = await history_(nf);
    await tell(nf);
    return { before, kept, codes, after };
  });
  verdict.confirmed += before.length;
  verdict.compare(new Set(before), after, `round ${round}`);
  if (!kept) verdict.note('lost', 1, `round ${round}: the newer state was overwritten`);
  if (codes.length === 0 || codes.some((code) => code !== 'state.newer_schema')) verdict.note('other', 1, `round ${round}: ${codes}`);
  verdict.compareTold(site, after, `round ${round}`);
}
