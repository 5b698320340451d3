/** The claim about memory in training and in sampling: Raposo et al. 2024, section 5. */
import { routedBlocks } from '../../model/config.js';
import { hasPredictor } from '../../model/routers.js';
import { mean } from '../../statistics.js';
import { meanOf } from '../differences.js';
import { intervalOf } from '../estimate.js';
import type { DoneRun, Study } from '../study.js';
import { significant, withInterval } from '../words.js';
import { type Claim, type Evidence, named, overall } from './claim.js';
import { allHold, below } from './judgement.js';
import { pairsWithDense, shapesOf } from './pairs.js';

export const memoryClaims = (study: Study): Claim[] => [memory(study)];

function memory(study: Study): Claim {
  const text = {
    id: 'memory',
    claim: 'MoD transformers need less memory in training and a smaller key/value cache in sampling.',
    source: '5',
  };
  const pairs = pairsWithDense(study.done);
  const peaks = shapesOf(
    pairs.filter(
      ({ routed, dense }) => routed.row.peak_memory_bytes !== null && dense.row.peak_memory_bytes !== null,
    ),
  ).map((ofShape) =>
    mean(
      ofShape.map(({ routed, dense }) =>
        Math.log((routed.row.peak_memory_bytes as number) / (dense.row.peak_memory_bytes as number)),
      ),
    ),
  );
  const caches = study.done.flatMap((run) => cacheShare(run) ?? []);
  return overall(
    text,
    'Needs MoD and dense runs of one shape with their peak memory, and evaluation as in sampling.',
    memoryEvidence(peaks, caches),
  );
}

/** Less memory by less than this share is as much. */
const LESS_MEMORY = Math.log(0.95);

function memoryEvidence(peaks: number[], caches: number[]): Evidence | null {
  if (peaks.length === 0 || caches.length === 0) return null;
  const [peak, cache] = [meanOf(peaks), meanOf(caches)];
  const range = intervalOf(peak);
  const ratio = {
    value: Math.exp(peak.value),
    interval: range && ([Math.exp(range[0]), Math.exp(range[1])] as const),
  };
  return {
    judgement: allHold(below(peak, LESS_MEMORY), below(cache, 1)),
    finding: `Peak memory in training ${withInterval(ratio.value, ratio.interval, significant)} of the dense model's of the same shape (mean of ${peaks.length === 1 ? 'one shape' : `${peaks.length} shapes`}; less: below 0.95); cache in sampling ${withInterval(cache.value, intervalOf(cache), significant)} of the dense one's, from the share of selected tokens.`,
    numbers: [{ name: 'peak memory, MoD over dense', ...ratio }, ...named('cache, MoD over dense', cache)],
  };
}

/** A routed block caches only tokens that went through it; null for a run that was not evaluated as in sampling. */
function cacheShare({ spec: { model }, evaluations }: DoneRun): number | null {
  const { routing, n_layers } = model;
  if (routing === null || !hasPredictor(routing)) return null;
  const causal = evaluations.find(({ routing: mode }) => mode === 'predictor');
  if (causal?.participation == null) return null;
  const routed = routedBlocks(model).length;
  return (n_layers - routed + routed * causal.participation) / n_layers;
}
