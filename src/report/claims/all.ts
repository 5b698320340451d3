/** The paper's claims, each with its verdict on the data of a study. */
import type { Study } from '../study.js';
import type { Claim } from './claim.js';
import { isoflopClaims } from './isoflop.js';
import { memoryClaims } from './memory.js';
import { routingSettingClaims } from './routing-setting.js';
import { samplingClaims } from './sampling.js';
import { speedClaims } from './speed.js';

/** Every claim of Raposo et al. 2024 that the runs of a study can test. */
export function claimsOf(study: Study): Claim[] {
  return [
    ...isoflopClaims(study),
    ...routingSettingClaims(study),
    ...speedClaims(study),
    ...memoryClaims(study),
    ...samplingClaims(study),
  ];
}
