// The fleet: starts the simulated shoppers in a worker and draws what they find.

import { at, bytes, count, h } from './dom.js';

// A choice: long enough for a day of a busy page, short enough to draw at once.
const POINTS_MAX = 1_500;

/** The button, the figures and the plot of the fleet. */
export class Fleet {
  #config;
  /** Where the place in the log is kept: a central with another key has not seen any of it. */
  #replayed;
  #worker;
  #running = false;
  #points = [[], [], [], []];
  #plot;
  #arrivals;

  constructor(config, catalogue) {
    this.#config = config;
    this.#replayed = `replayed ${config.publicKey.slice(0, 16)}`;
    this.#arrivals = catalogue.items.filter((item) => item.new).length;
    at('fleet-text').textContent = catalogue.named
      ? `Shoppers of the shop’s second week, each with a state of their own, browse in a worker. Before each choice three lists of ten are drawn up: by the live model, by the same model frozen as it was when they came, and by popularity. Their deltas teach the live one; ${this.#arrivals} items arrived since the training, and the frozen model does not know how people take to them.`
      : `The second half of the real log, person by person, in a worker. Before each choice three lists of ten are drawn up: by the live model, by the same model frozen as it was when they came, and by popularity. Their deltas teach the live one.`;
    at('simulate').addEventListener('click', () => this.#toggle());
    at('pace').addEventListener('change', () => this.#worker?.postMessage({ pace: Number(at('pace').value) }));
    this.#counts({ events: 0, visits: 0, of: 0, sent: 0, acknowledged: 0, refused: 0, sentBytes: 0, version: undefined, arrivals: 0, arrivalHits: 0 });
    void this.#draw();
  }

  #toggle() {
    this.#running = !this.#running;
    const button = at('simulate');
    button.setAttribute('aria-pressed', String(this.#running));
    button.textContent = this.#running ? 'Pause the shoppers' : 'Let shoppers browse';
    if (!this.#worker) {
      this.#worker = new Worker('/src/fleet-worker.js', { type: 'module' });
      this.#worker.addEventListener('message', ({ data }) => this.#take(data));
      this.#worker.addEventListener('error', (event) => this.#fail(event.message || 'the worker could not start'));
      this.#worker.postMessage({ config: this.#config, pace: Number(at('pace').value), replayed: JSON.parse(localStorage.getItem(this.#replayed) ?? 'null') });
    }
    this.#worker.postMessage({ run: this.#running });
  }

  #take(data) {
    if (data.failed) return this.#fail(data.failed);
    const { rates, lineage, place } = data;
    // A model that has learnt from a visit must not be asked about it again: the next page goes on from here.
    localStorage.setItem(this.#replayed, JSON.stringify({ lineage, place }));
    at('rate-live').textContent = percent(rates?.live);
    at('rate-frozen').textContent = percent(rates?.frozen);
    at('rate-popular').textContent = percent(rates?.popular);
    this.#counts(data);
    if (data.done) {
      this.#running = false;
      at('pace').disabled = true;
      at('simulate').textContent = 'Every visit is over';
      at('simulate').disabled = true;
      at('plot-caption').textContent += ' The live model has learnt from all of them; cargo xtask demo --fresh begins anew.';
    }
    const [x, live, frozen, popular] = this.#points;
    if (!rates || x.at(-1) === data.events) return;
    x.push(data.events);
    live.push(rates.live * 100);
    frozen.push(rates.frozen * 100);
    popular.push(rates.popular * 100);
    if (x.length > POINTS_MAX) this.#points = this.#points.map((series) => series.filter((_, place) => place % 2 === 0));
    this.#plot?.setData(this.#points);
  }

  #counts({ events, visits, of, sent, acknowledged, refused, sentBytes, version, arrivals, arrivalHits, offline }) {
    const row = (name, value) => h('div', {}, h('dt', {}, name), h('dd', {}, value));
    at('fleet-counts').replaceChildren(
      row('Events', count(events)),
      row('Visits', of ? `${count(visits)} of ${count(of)}` : '0'),
      row('Deltas acknowledged', `${count(acknowledged)}${refused ? `, ${count(refused)} refused` : ''}`),
      row('Sent in all', bytes(sentBytes)),
      row('Live model', version === undefined ? '–' : `v${version}`),
      row('New arrivals found', arrivals ? `${count(arrivalHits)} of ${count(arrivals)}` : '–'),
      ...(offline ? [row('Central', 'away; deltas wait')] : []),
    );
    at('fleet-counts').dataset.sent = String(sent);
  }

  #fail(message) {
    this.#running = false;
    at('simulate').textContent = 'The shoppers could not come';
    at('simulate').disabled = true;
    at('plot-caption').textContent = message;
  }

  async #draw() {
    let UPlot;
    try {
      UPlot = (await import('/vendor/uplot/dist/uPlot.esm.js')).default;
    } catch {
      at('plot').append(h('p.empty', {}, 'The figure needs uPlot: run npm ci in www and serve with --vendor www/node_modules.'));
      return;
    }
    const frame = at('plot');
    const size = () => ({ width: Math.max(frame.clientWidth, 240), height: Math.min(340, Math.max(230, frame.clientWidth * 0.42)) });
    const make = () => {
      const css = getComputedStyle(document.documentElement);
      const colour = (name) => css.getPropertyValue(name).trim();
      const axis = { stroke: colour('--soft'), grid: { stroke: colour('--rule'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
      this.#plot?.destroy();
      this.#plot = new UPlot({
        ...size(),
        padding: [14, 12, 0, 0],
        cursor: { points: { size: 7 }, drag: { setScale: false } },
        legend: { show: false },
        scales: { x: { time: false, range: (_, low, high) => [low ?? 0, Math.max(high ?? 0, (low ?? 0) + 1000)] }, y: { range: (_, low, high) => [0, Math.max(10, Math.ceil(((high ?? 0) * 1.15) / 5) * 5)] } },
        axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => (tick >= 1000 ? `${tick / 1000}k` : tick)), label: 'events replayed', size: 30, labelSize: 22, labelGap: 0, labelFont: axis.font }, { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => `${tick} %`) }],
        series: [
          {},
          { label: 'Live', stroke: colour('--live'), width: 2.6, fill: colour('--live-wash'), points: { show: false } },
          { label: 'Frozen', stroke: colour('--frozen'), width: 2, points: { show: false } },
          { label: 'Popularity', stroke: colour('--pop'), width: 1.6, dash: [5, 4], points: { show: false } },
        ],
      }, this.#points, frame);
    };
    make();
    new ResizeObserver(() => this.#plot.setSize(size())).observe(frame);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', make);
  }
}

const percent = (rate) => (rate === undefined ? '–' : `${(rate * 100).toFixed(1)} %`);
