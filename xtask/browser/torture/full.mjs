// A disk that has no room, and no room again: QuotaExceededError at any write.

import { distinctEvents, rounds } from './site.mjs';

const TURNS = 12;
/** What there is room for: everything, everything but the model, the state if there is no model, nothing. */
const ROOMS = ['enough', 'enough', 'small', 'state or model', 'none'];

/** Makes writes fail as they do in a browser that has no room: the transaction ends with the reason. */
function fill() {
  let model = false;
  const refuses = {
    enough: () => false,
    small: (key) => key === 'model',
    'state or model': (key) => key === 'model' || (key === 'state' && model),
    none: () => true,
  };
  const { put, delete: remove } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = function (value, key) {
    const request = put.call(this, value, key);
    if (refuses[window.room ?? 'enough'](key)) {
      Object.defineProperty(this.transaction, 'error', { value: new DOMException('full', 'QuotaExceededError') });
      this.transaction.abort();
    } else if (key === 'model') model = true;
    return request;
  };
  IDBObjectStore.prototype.delete = function (key) {
    if (key === 'model') model = false;
    return remove.call(this, key);
  };
}

export const full = rounds(oneRound);

async function oneRound({ site, context, verdict, round }) {
  const events = distinctEvents();
  let refusals = 0;
  let room = 'enough';
  const confirmed = site.newPerson({ verdict, losesAnswers: false });
  Object.assign(site.post, {
    '/next': () => events.splice(0, 5),
  });
  await context.addInitScript(fill);
  const page = await context.newPage();
  const visit = async () => {
    await site.load(page);
    await page.evaluate(async (room) => {
      window.room = room;
      window.nf = await Nearfield.open(options);
      window.errors = [];
      nf.on('error', ({ code }) => errors.push(code));
    }, room);
    return page.evaluate(() => history_(nf));
  };
  await visit();
  for (let turn = 0; turn < TURNS; turn += 1) {
    room = ROOMS[Math.floor(Math.random() * ROOMS.length)];
    const code = await page.evaluate(async (room) => {
      window.room = room;
      const events = await next();
      track(nf, events);
      try {
        await nf.flush();
      } catch (thrown) {
        return thrown.code;
      }
      await post('/confirmed', events);
      return undefined;
    }, room);
    if (code === 'storage.quota') refusals += 1;
    else if (code !== undefined) verdict.note('other', 1, `round ${round}: ${code}`);
    if (Math.random() < 0.3) verdict.compare(confirmed, await visit(), `round ${round}, turn ${turn}`);
  }
  verdict.refusals += refusals;
  room = 'enough';
  await page.evaluate(() => {
    window.room = 'enough';
    return nf.flush();
  });
  if (!(await page.evaluate(() => tell(nf)))) verdict.note('other', 1, `round ${round}: something could not be sent`);
  const history = await visit();
  verdict.compare(confirmed, history, `round ${round}`);
  verdict.compareTold(site, history, `round ${round}`);
}
