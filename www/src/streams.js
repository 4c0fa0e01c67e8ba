// The same events by another way: to the edge, through Kafka, into a list that is beside this device's own.

import { nameOf } from './catalogue.js';
import { at, h } from './dom.js';

/** Time between two looks at how far the edge is behind, in ms. */
const LAG_EVERY_MS = 1_000;
/** Time between two tries for a list of the model that the device has, in ms. */
const AGAIN_MS = 400;

/** The section about Kafka. */
export class Streams {
  #edge;
  #nf;
  #catalogue;
  #count;
  /** A name that only this visit knows the edge under. */
  #user = `visit-${crypto.randomUUID()}`;
  /** Events go one after another, so that the topic has them in the order of the device. */
  #sending = Promise.resolve();
  #list = undefined;
  #again = 0;

  constructor(edge, nf, catalogue, count) {
    this.#edge = edge;
    this.#nf = nf;
    this.#catalogue = catalogue;
    this.#count = count;
    at('streams').hidden = false;
    at('device-text').prepend('But for the way through Kafka above: ');
    void this.#watchLag();
  }

  /** Sends all that the device knows of the person: the edge knows nobody of this visit's name. */
  begin() {
    const known = this.#nf.inspect().history.filter(({ itemId }) => itemId !== undefined);
    if (known.length > 0) this.#send(known);
    else this.#compare();
  }

  /** Sends the newest event of the device. */
  newest() {
    const newest = this.#nf.inspect().history.at(-1);
    if (newest?.itemId !== undefined) this.#send([newest]);
  }

  /** The device forgot the person; so does the edge, and the topic. */
  forget() {
    const user = this.#user;
    this.#user = `visit-${crypto.randomUUID()}`;
    this.#list = undefined;
    this.#sending = this.#sending.then(() => fetch(`${this.#edge}/v1/users/${user}`, { method: 'DELETE' })).catch(() => undefined);
    this.#compare();
  }

  /** Another model is in use on the device: the edge's list by it is asked for. */
  model() {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#ask(), AGAIN_MS);
  }

  #send(history) {
    const user = this.#user;
    const events = history.map(({ itemId, kind, timeMs }) => ({ kind, item_id: itemId, time_ms: timeMs }));
    const from = performance.now();
    this.#sending = this.#sending.then(async () => {
      const answer = await this.#fetch(`/v1/users/${user}/observe`, { events, list: { count: this.#count } });
      if (user !== this.#user) return;
      at('streams-took').textContent = `${Math.round(performance.now() - from)} ms`;
      this.#list = answer.list;
      this.#compare();
      if (answer.list.stale) this.model();
    }).catch((thrown) => this.#tell('edge away', thrown.message));
  }

  #ask() {
    const user = this.#user;
    this.#sending = this.#sending.then(async () => {
      const list = await this.#fetch(`/v1/users/${user}/recommendations?count=${this.#count}`);
      if (user !== this.#user) return;
      this.#list = list;
      this.#compare();
    }).catch((thrown) => this.#tell('edge away', thrown.message));
  }

  async #fetch(path, body) {
    const asked = body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    const answer = await fetch(this.#edge + path, asked);
    const read = await answer.json();
    if (!answer.ok) throw new Error(read.error ?? `${answer.status}`);
    return read;
  }

  #compare() {
    const { version } = this.#nf.inspect();
    // A look that does not count as shown.
    const device = this.#nf.peek({ count: this.#count });
    const edge = this.#list?.items ?? [];
    const row = (itemId, place, other) => h('li', { 'data-same': itemId === other }, h('span.rank', {}, String(place + 1)), nameOf(this.#catalogue.item(itemId)));
    at('streams-device').replaceChildren(...device.map(({ itemId }, place) => row(itemId, place, edge[place]?.item_id)));
    at('streams-edge').replaceChildren(...edge.map(({ item_id: itemId }, place) => row(itemId, place, device[place]?.itemId)));
    at('streams-versions').textContent = `device v${version}, edge v${this.#list?.model_version ?? '–'}`;
    const equal = device.length > 0 && device.length === edge.length && device.every(({ itemId }, place) => itemId === edge[place].item_id);
    if (equal) this.#tell('equal');
    else if (!this.#list) this.#tell('waiting');
    else if (this.#list.stale) this.#tell('on the way');
    else if (this.#list.model_version !== version) {
      this.#tell('other version', 'One of the two has a newer model; the other one gets it within seconds.');
      this.model();
    } else this.#tell('different');
  }

  #tell(state, why = '') {
    const element = at('streams-state');
    element.textContent = state;
    element.title = why;
    element.dataset.state = state;
  }

  /** Shows how many events of the topic the edge has not taken in. */
  async #watchLag() {
    try {
      const text = await (await fetch(`${this.#edge}/metrics`)).text();
      const lags = [...text.matchAll(/^nearfield_edge_stream_lag_events\{[^}]*\} ([0-9.]+)$/gm)].map(([, lag]) => Number(lag));
      at('streams-lag').textContent = lags.length > 0 ? String(lags.reduce((sum, lag) => sum + lag, 0)) : '–';
    } catch {
      at('streams-lag').textContent = '–';
    }
    setTimeout(() => void this.#watchLag(), LAG_EVERY_MS);
  }
}
