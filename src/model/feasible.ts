/** Which models there can be: what a sweep plans as skipped, and a benchmark refuses. */
import { type ModelConfig, selectedTokens } from './config.js';

/** Every reason why no block of a model is routed, though it is called a routed one; none: it is, or is dense. */
export function routingProblems({ routing, n_layers, sequence_length }: ModelConfig): string[] {
  const reasons: string[] = [];
  if (routing !== null && routing.frequency > n_layers) {
    reasons.push(
      `routing frequency ${routing.frequency} is above the ${n_layers} layers: no block would be routed`,
    );
  }
  if (routing !== null && selectedTokens(routing.capacity, sequence_length) === 0) {
    reasons.push(`capacity ${routing.capacity} of ${sequence_length} tokens selects none`);
  }
  return reasons;
}
