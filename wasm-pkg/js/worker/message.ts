// What a page and the worker that has its core tell each other.

import type { NearfieldEvents } from '../emitter.js';
import type { Nearfield as InPage } from '../nearfield.js';

/** What a page may ask of an instance: its methods, but for those that take or give functions. */
export type Method = Exclude<
  { [Name in keyof InPage]: InPage[Name] extends (...args: never[]) => unknown ? Name : never }[keyof InPage],
  'on' | 'dataLayer' | 'track' | 'clicked'
>;

/** How the page is. */
export interface PageState {
  hidden: boolean;
  /** `navigator.doNotTrack`, which a worker does not have. */
  doNotTrack: string | null;
}

/** Opens or restores an instance, which is called by `instance` from then on. */
export interface Make {
  instance: number;
  make: 'open' | 'restore';
  args: unknown[];
  page: PageState;
}

/** Calls a method of an instance. */
export interface MethodCall {
  instance: number;
  method: Method | 'ready';
  args: unknown[];
}

/** What happened to the page, as the browser calls it. */
export interface Happened {
  happened: string;
  persisted: boolean;
  page: PageState;
}

/** What the page tells its worker; a call is answered under its number. */
export type ToWorker = ((Make | MethodCall) & { call: number }) | Happened;

/** An error, without what a page has no use for. */
export interface ToldError {
  code: string;
  message: string;
  field?: string;
  limit?: number;
}

/** What the worker tells the page. `keeps` is whether the person is kept. */
export type ToPage =
  /** What came of a call. */
  | { call: number; value?: unknown; error?: ToldError }
  /** All that the page told an instance up to this call is stored, or will not be. */
  | { instance: number; stored: number; keeps: boolean }
  /** An event of an instance. */
  | { [Name in keyof NearfieldEvents]: { instance: number; event: Name; detail: Name extends 'error' ? ToldError : NearfieldEvents[Name] } }[keyof NearfieldEvents];
