/** The paper's claims as a table: each with its verdict on this data. */
import type { Study } from '../study.js';
import type { Claim } from './claim.js';
import { isoflopClaims } from './isoflop.js';
import { routingSettingClaims } from './routing-setting.js';
import { samplingClaims } from './sampling.js';
import { speedClaims } from './speed.js';

/** Every claim of section 4 of Raposo et al. 2024, judged by the runs of a study alone. */
export function claimsOf(study: Study): Claim[] {
  return [
    ...isoflopClaims(study),
    ...routingSettingClaims(study),
    ...speedClaims(study),
    ...samplingClaims(study),
  ];
}
