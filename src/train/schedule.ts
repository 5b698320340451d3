/** Learning rate schedule: linear warm-up, then cosine decay to a tenth of the peak at the last step. */

/** Warm-up steps in a run of n steps: max(1, min(floor(n/10), max(20, round(n/50)))). */
export function warmupSteps(steps: number): number {
  return Math.max(1, Math.min(Math.floor(steps / 10), Math.max(20, Math.round(steps / 50))));
}

/** The learning rate of step `step` = 1..`steps`; `peak` is its largest value. */
export function learningRate(step: number, steps: number, peak: number): number {
  const warmup = warmupSteps(steps);
  if (step <= warmup) return (peak * step) / warmup;
  const progress = (step - warmup) / (steps - warmup);
  return peak * (0.1 + 0.45 * (1 + Math.cos(Math.PI * progress)));
}
