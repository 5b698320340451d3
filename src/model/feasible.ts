/** Whether a routed model can be trained: a sweep lists the others as skipped, a benchmark rejects them. */
import { type ModelConfig, selectedTokens } from './config.js';

/** Every reason why the routing of a model is not feasible; empty if it is, or if the model is dense. */
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
