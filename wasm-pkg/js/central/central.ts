// Central's HTTP, and how long to wait after it failed.

import { NearfieldError } from '../error.js';
import { read } from '../storage/pieces.js';

/** A failed request to central, with what a retry needs to know. */
export class CentralError extends NearfieldError {
  /** Milliseconds that central asked to wait, where it did. */
  readonly retryAfterMs?: number;

  constructor(code: string, message: string, more: { cause?: unknown; retryAfterMs?: number | undefined } = {}) {
    super(code, message, more);
    if (more.retryAfterMs !== undefined) this.retryAfterMs = more.retryAfterMs;
  }
}

// A choice: longer than any honest answer, shorter than a person's patience with a loading page.
const TIMEOUT_MS = 30_000;

/** A file that comes piece by piece. */
export interface Download extends AsyncIterable<Uint8Array> {
  /** Ends it: it is not wanted any more. */
  cancel(): void;
}

/** The requests that this package makes; there are no others. */
export class Central {
  readonly #endpoint: string;

  constructor(endpoint: string) {
    this.#endpoint = endpoint.replace(/\/+$/, '');
  }

  /** A fresh, opaque device token. It names no one and is only ever sent back to central. */
  device(): Promise<Uint8Array> {
    return this.#bytes('/v1/device', { method: 'POST' });
  }

  /** Sends deltas and gives the answer's bytes. `keepalive` lets it outlive the page. */
  sync(body: Uint8Array, keepalive: boolean): Promise<Uint8Array> {
    return this.#bytes('/v1/sync', {
      method: 'POST',
      body: body as BufferSource,
      keepalive,
      // Needs no CORS preflight, which a page that is going away could not wait for.
      headers: { 'content-type': 'text/plain' },
    });
  }

  /** The signed manifest. */
  manifest(): Promise<Uint8Array> {
    return this.#bytes('/v1/model/latest', { cache: 'no-cache' });
  }

  /** The pack of a version, which is on its way at once. */
  pack(version: number): Download {
    const path = `/v1/model/${version}.pack`;
    const ended = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    // A large pack may take as long as it needs, while pieces come.
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ended.abort(), TIMEOUT_MS);
    };
    wait();
    const response = this.#response(path, { signal: ended.signal });
    const end = () => {
      clearTimeout(timer);
      ended.abort();
    };
    response.catch(end);
    const pieces = (async function* () {
      try {
        for await (const piece of read((await response).body as ReadableStream<Uint8Array>)) {
          wait();
          yield piece;
        }
      } catch (thrown) {
        throw thrown instanceof CentralError ? thrown : unreachable(path, thrown);
      } finally {
        end();
      }
    })();
    return { cancel: end, [Symbol.asyncIterator]: () => pieces };
  }

  /** The patch between two versions. */
  patch(from: number, to: number): Promise<Uint8Array> {
    return this.#bytes(`/v1/model/${from}..${to}.patch`, {});
  }

  async #bytes(path: string, request: RequestInit): Promise<Uint8Array> {
    const response = await this.#response(path, { signal: AbortSignal.timeout(TIMEOUT_MS), ...request });
    try {
      return new Uint8Array(await response.arrayBuffer());
    } catch (cause) {
      throw unreachable(path, cause);
    }
  }

  async #response(path: string, request: RequestInit): Promise<Response> {
    const response = await fetch(this.#endpoint + path, understood({ credentials: 'omit', ...request })).catch((cause: unknown) => {
      throw unreachable(path, cause);
    });
    if (response.ok) return response;
    throw new CentralError(codeOf(response.status), `${path} answered ${response.status}`, {
      retryAfterMs: retryAfterMs(response.headers.get('retry-after')),
    });
  }
}

function unreachable(path: string, cause: unknown): CentralError {
  return new CentralError('central.unreachable', `${path} could not be reached`, { cause });
}

/** Leaves out what the host does not know: workers without cookies or a cache refuse to be told about them. */
function understood(request: RequestInit): RequestInit {
  const entries = Object.entries(request).filter(([name]) => !HOST_OPTIONS.includes(name) || name in Request.prototype);
  return Object.fromEntries(entries);
}

const HOST_OPTIONS = ['credentials', 'cache', 'keepalive'];

function codeOf(status: number): string {
  // The device token does not hold any more; a new one will.
  if (status === 401) return 'central.token';
  // These may say when to come back; the rest is ours or central's mistake.
  return status === 429 || status === 503 ? 'central.busy' : 'central.status';
}

/** Milliseconds of a `Retry-After` header: seconds or an HTTP date. */
export function retryAfterMs(header: string | null, nowMs: number = Date.now()): number | undefined {
  if (header === null) return undefined;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - nowMs;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), RETRY_AFTER_MS_MAX) : undefined;
}

// A day: a mistaken header must not silence a device for good.
const RETRY_AFTER_MS_MAX = 86_400_000;

// Choices: the first retry is quick, and a fleet that comes back after an outage is spread over minutes.
const BACKOFF_MS = 1_000;
const BACKOFF_MS_MAX = 300_000;

/** Milliseconds to wait after the n-th failure in a row: doubling, half of it at random. */
export function backoffMs(failures: number, random: number = Math.random()): number {
  const full = Math.min(BACKOFF_MS * 2 ** (failures - 1), BACKOFF_MS_MAX);
  return full / 2 + (full / 2) * random;
}
