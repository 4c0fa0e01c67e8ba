/** What the person agreed to. */
export interface Consent {
  /** Keep what was learnt on the device. Without it, all stays in memory and nothing leaves. */
  personalise: boolean;
  /** Send deltas. Without it, no delta is built and no request but for the model is made. */
  share: boolean;
}

/**
 * Gives the consent in force: what was given explicitly, else the browser's signals.
 *
 * Global Privacy Control and Do Not Track turn sharing off unless `share` was given.
 */
export function consentFrom(given: Partial<Consent> = {}): Consent {
  const personalise = given.personalise ?? true;
  return { personalise, share: personalise && (given.share ?? !refusedBySignal()) };
}

function refusedBySignal(): boolean {
  const signals = (globalThis as { navigator?: { globalPrivacyControl?: boolean; doNotTrack?: string | null } }).navigator;
  return signals?.globalPrivacyControl === true || signals?.doNotTrack === '1';
}
