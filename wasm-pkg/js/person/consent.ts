// What the person agreed to, what the browser says for them, and what holds.

import { decodeJson, encodeJson } from '../storage/json.js';

/** What the person agreed to. Both are off until they are given. */
export interface Consent {
  /** Keep what was learnt on the device. Without it, all stays in memory and nothing leaves. */
  personalise: boolean;
  /** Send deltas. Without it, no delta is built and no request but for the model is made. */
  share: boolean;
}

/** The consent in force. */
export interface ConsentInForce extends Consent {
  /**
   * The browser's signal that keeps `share` off, whatever was given: Global Privacy Control or Do Not
   * Track.
   */
  signal?: 'gpc' | 'dnt';
}

/** What was given where nothing was. */
export const NO_CONSENT: Consent = { personalise: false, share: false };

/** Gives a consent with changes made to it. */
export function changed(given: Consent, changes: Partial<Consent> = {}): Consent {
  return { personalise: changes.personalise ?? given.personalise, share: changes.share ?? given.share };
}

/** Gives what holds of what was given, at this moment: the browser's signals may change. */
export function inForce({ personalise, share }: Consent): ConsentInForce {
  const signal = signalOfBrowser();
  return { personalise, share: personalise && share && !signal, ...(signal && { signal }) };
}

function signalOfBrowser(): 'gpc' | 'dnt' | undefined {
  const browser = (globalThis as { navigator?: { globalPrivacyControl?: boolean; doNotTrack?: string | null } }).navigator;
  if (browser?.globalPrivacyControl === true) return 'gpc';
  return browser?.doNotTrack === '1' ? 'dnt' : undefined;
}

/** Whether two consents are the same. */
export function same(one: Consent, other: Consent): boolean {
  return one.personalise === other.personalise && one.share === other.share;
}

/** A consent as it is stored. */
export function encodeConsent({ personalise, share }: Consent): Uint8Array {
  return encodeJson({ personalise, share });
}

/** A stored consent; what cannot be read was not given. */
export function decodeConsent(bytes: Uint8Array | undefined): Consent {
  const stored = decodeJson(bytes) as Partial<Consent> | null | undefined;
  return { personalise: stored?.personalise === true, share: stored?.share === true };
}
