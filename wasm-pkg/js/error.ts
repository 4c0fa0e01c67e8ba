/**
 * What every call of this package throws, and what the `error` event carries.
 *
 * `code` is stable: it is part of the API and safe to branch on. The message is for people.
 */
export class NearfieldError extends Error {
  /** A stable, dotted name of what went wrong, such as `event.unknown_kind` or `manifest.bad_signature`. */
  readonly code: string;
  /** The field that is at fault, where there is one. */
  readonly field?: string;
  /** The limit that was passed, where there is one. */
  readonly limit?: number;

  constructor(code: string, message: string, more: { field?: string; limit?: number; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'NearfieldError';
    this.code = code;
    if (more.field !== undefined) this.field = more.field;
    if (more.limit !== undefined) this.limit = more.limit;
  }
}

/** Gives any thrown value as a `NearfieldError`; one that the core threw keeps its code. */
export function asNearfieldError(thrown: unknown, code: string): NearfieldError {
  if (thrown instanceof NearfieldError) return thrown;
  if (thrown instanceof Error) {
    const { code: own, field, limit } = thrown as Error & { code?: unknown; field?: unknown; limit?: unknown };
    // A WebAssembly trap or a DOMException has no dotted code of ours.
    if (typeof own === 'string' && own.includes('.')) {
      return new NearfieldError(own, thrown.message, {
        ...(typeof field === 'string' && { field }),
        ...(typeof limit === 'number' && { limit }),
      });
    }
    return new NearfieldError(code, thrown.message, { cause: thrown });
  }
  return new NearfieldError(code, String(thrown));
}
