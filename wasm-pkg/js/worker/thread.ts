// The script of the worker: instances as a page without a worker has them, called by messages.

import { Nearfield, type NearfieldEvents } from '../index.js';
import { asNearfieldError } from '../error.js';
import type { OpenOptions } from '../options.js';
import type { Make, MethodCall, PageState, ToPage, ToWorker, ToldError } from './message.js';

type Thread = EventTarget & { document?: unknown; navigator: object; postMessage(message: ToPage): void };

const thread = globalThis as unknown as Thread;
const instances = new Map<number, Nearfield>();
const EVENTS: readonly (keyof NearfieldEvents)[] = ['recommendations', 'model', 'sync', 'error'];

// The page lives elsewhere: what it says of itself stands where a page has it.
const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
thread.document = page;

function be({ hidden, doNotTrack }: PageState): void {
  page.visibilityState = hidden ? 'hidden' : 'visible';
  Object.defineProperty(thread.navigator, 'doNotTrack', { value: doNotTrack, configurable: true });
}

async function answer(call: number, asked: Make | MethodCall): Promise<void> {
  try {
    const value = result(asked);
    if ('method' in asked && asked.method === 'observe') void tellStored(asked.instance, call);
    thread.postMessage({ call, value: await value });
  } catch (thrown) {
    thread.postMessage({ call, error: told(thrown) });
  }
}

/** The last call in which each instance observed something, while that is being stored. */
const observed = new Map<number, number>();

/** Tells the page as soon as what it told is stored. */
async function tellStored(instance: number, call: number): Promise<void> {
  const storing = observed.has(instance);
  observed.set(instance, call);
  if (storing) return;
  for (let stored = 0; stored < (observed.get(instance) ?? 0); ) {
    const nf = instances.get(instance);
    stored = observed.get(instance) as number;
    try {
      await nf?.flush();
    } catch {
      // There is no room, say; an event has told. The page keeps it as long as it has not heard otherwise.
      break;
    }
    thread.postMessage({ instance, stored, keeps: nf?.keeps ?? false });
  }
  observed.delete(instance);
}

function result(asked: Make | MethodCall): unknown {
  if ('make' in asked) return make(asked);
  const { instance, method, args } = asked;
  const nf = instances.get(instance) as Nearfield;
  // An instance is no value that a page could be given.
  if (method === 'ready') return nf.ready.then(() => undefined);
  if (method === 'close') instances.delete(instance);
  return (nf[method] as (...args: unknown[]) => unknown).apply(nf, args);
}

async function make({ instance, make, args, page }: Make): Promise<void> {
  be(page);
  const nf = await (make === 'open' ? Nearfield.open(args[0] as OpenOptions) : Nearfield.restore(args[0] as Uint8Array, args[1] as OpenOptions));
  instances.set(instance, nf);
  for (const event of EVENTS) {
    nf.on(event, (detail) => thread.postMessage({ instance, event, detail: event === 'error' ? told(detail) : detail } as ToPage));
  }
  thread.postMessage({ instance, stored: 0, keeps: nf.keeps });
}

function told(thrown: unknown): ToldError {
  const { code, message, field, limit } = asNearfieldError(thrown, 'worker.failed');
  return { code, message, ...(field !== undefined && { field }), ...(limit !== undefined && { limit }) };
}

thread.addEventListener('message', (event) => {
  const { data } = event as MessageEvent<ToWorker>;
  if ('call' in data) return void answer(data.call, data);
  be(data.page);
  const { happened, persisted } = data;
  // What the browser tells a document, and what it tells a window.
  (happened === 'visibilitychange' ? page : thread).dispatchEvent(Object.assign(new Event(happened), { persisted }));
});
