// Times the module and the JavaScript peers on one case. Node and Chromium run this same file.

/** The numbers of the module's operations that are named here. */
const OPERATIONS = { chill: 0, warm: 1, recommend: 2, observe: 3, foldIn: 4, stream: 5, load: 6 };
const COUNT = 20;

/** The case that is open: the module with its people, and what the peers work on. */
export class Runner {
  /** `read(name)` gives a file of the case as bytes; `ort` is onnxruntime-web. */
  constructor(read, ort) {
    this.read = read;
    this.ort = ort;
  }

  async open(wasm, { dim, peers }) {
    this.dim = dim;
    const { instance } = await WebAssembly.instantiate(wasm);
    this.nf = instance.exports;
    this.give(await this.read('model.pack'));
    this.nf.nb_pack();
    this.give(await this.read('visitors.bin'));
    if (this.nf.nb_open() !== 0) throw new Error('the module refuses the case');
    this.session = undefined;
    if (peers) {
      this.factors = new Float32Array((await this.read('factors.f32')).slice().buffer);
      this.queries = new Float32Array((await this.read('queries.f32')).slice().buffer);
      this.session = await this.ort.InferenceSession.create(await this.read('rank.onnx'), {
        executionProviders: ['wasm'],
      });
    }
    this.equations = equations(dim);
    return {};
  }

  give(bytes) {
    const at = this.nf.nb_input(bytes.length) >>> 0;
    new Uint8Array(this.nf.memory.buffer, at, bytes.length).set(bytes);
  }

  /** Does an operation of the module, by its number. */
  run({ operation, from, calls }) {
    return this.nf.nb_run(operation, from, calls) >>> 0;
  }

  /** Microseconds a call: one figure for each call, or one for the batch of what is too short or has no tail. */
  async time({ method, from, calls }) {
    const run = (operation, first, count) => this.nf.nb_run(OPERATIONS[operation], first, count);
    const each = async (work) => {
      const times = [];
      for (let at = 0; at < calls; at++) times.push(await timed(() => work(from + at)));
      return times;
    };
    switch (method) {
      case 'cold':
      case 'warm':
        run(method === 'cold' ? 'chill' : 'warm', from, calls);
        return each((turn) => run('recommend', turn, 1));
      case 'observe':
        return each((turn) => run('observe', turn, 1));
      case 'fold_in':
        return [(await timed(() => run('foldIn', from, calls))) / calls];
      case 'stream':
      case 'load':
        return [(await timed(() => run(method, from, calls))) / calls];
      case 'js_fold_in':
        return [(await timed(() => { for (let at = 0; at < calls; at++) solve(this.equations, this.dim); })) / calls];
      case 'js_loop':
        return each((turn) => this.loop(turn));
      case 'onnx':
        return each((turn) => this.onnx(turn));
      default:
        throw new Error(`no method ${method}`);
    }
  }

  /** The rows of one list; for the module with the bits of their scores. */
  async list({ method, person }) {
    if (method === 'js_loop') return { rows: this.loop(person) };
    if (method === 'onnx') return { rows: await this.onnx(person) };
    this.nf.nb_run(OPERATIONS[method === 'cold' ? 'chill' : 'warm'], person, 1);
    this.nf.nb_run(OPERATIONS.recommend, person, 1);
    const at = this.nf.nb_list() >>> 0;
    const [length] = new Uint32Array(this.nf.memory.buffer, at, 1);
    const list = new Uint32Array(this.nf.memory.buffer, at + 4, 2 * length);
    const every = (odd) => Array.from({ length }, (_, place) => list[2 * place + odd]);
    return { rows: every(0), bits: every(1) };
  }

  query(person) {
    const first = (person * this.dim) % this.queries.length;
    return this.queries.subarray(first, first + this.dim);
  }

  async onnx(person) {
    const query = new this.ort.Tensor('float32', this.query(person).slice(), [1, this.dim]);
    const { rows } = await this.session.run({ query });
    return Array.from(rows.data, Number);
  }

  /** A tuned loop: four sums at once, and an insertion list of the best. */
  loop(person) {
    const { factors, dim } = this;
    const query = this.query(person);
    const rows = new Int32Array(COUNT).fill(-1);
    const scores = new Float64Array(COUNT).fill(-Infinity);
    let threshold = -Infinity;
    for (let row = 0, start = 0; start < factors.length; row++, start += dim) {
      let a = 0, b = 0, c = 0, d = 0;
      let at = 0;
      for (; at + 3 < dim; at += 4) {
        a += factors[start + at] * query[at];
        b += factors[start + at + 1] * query[at + 1];
        c += factors[start + at + 2] * query[at + 2];
        d += factors[start + at + 3] * query[at + 3];
      }
      for (; at < dim; at++) a += factors[start + at] * query[at];
      const score = a + b + (c + d);
      if (score <= threshold) continue;
      let place = COUNT - 1;
      for (; place > 0 && scores[place - 1] < score; place--) {
        scores[place] = scores[place - 1];
        rows[place] = rows[place - 1];
      }
      scores[place] = score;
      rows[place] = row;
      threshold = scores[COUNT - 1];
    }
    return Array.from(rows);
  }
}

/** Microseconds that work takes; what is done at once is not awaited within them. */
async function timed(work) {
  const start = performance.now();
  const promise = work();
  if (promise instanceof Promise) await promise;
  return (performance.now() - start) * 1000;
}

/** The system that the module's fold-in solves, as full rows. */
function equations(dim) {
  const a = new Float64Array(dim * dim);
  const b = new Float64Array(dim);
  for (let event = 0; event < 200; event++) {
    const q = Float64Array.from({ length: dim }, (_, at) => (((event * dim + at) * 7919) % 255) / 255 - 0.5);
    const weight = 0.1 + (event % 10 === 0 ? 1 : 0);
    for (let i = 0; i < dim; i++) {
      for (let j = 0; j < dim; j++) a[i * dim + j] += weight * q[i] * q[j];
      if (event % 10 === 0) b[i] += q[i];
    }
  }
  for (let i = 0; i < dim; i++) a[i * dim + i] += 0.5;
  return { a, b };
}

/** Cholesky's factorisation and two substitutions in plain JavaScript. */
function solve({ a, b }, dim) {
  const l = a.slice();
  for (let i = 0; i < dim; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = l[i * dim + j];
      for (let k = 0; k < j; k++) sum -= l[i * dim + k] * l[j * dim + k];
      l[i * dim + j] = i === j ? Math.sqrt(sum) : sum / l[j * dim + j];
    }
  }
  const x = b.slice();
  for (let i = 0; i < dim; i++) {
    for (let k = 0; k < i; k++) x[i] -= l[i * dim + k] * x[k];
    x[i] /= l[i * dim + i];
  }
  for (let i = dim - 1; i >= 0; i--) {
    for (let k = i + 1; k < dim; k++) x[i] -= l[k * dim + i] * x[k];
    x[i] /= l[i * dim + i];
  }
  return x;
}
