/** Compares step times: measured on one machine, averaged over the seeds of a model. */
import { mean } from '../statistics.js';
import { groupBy } from './group.js';
import type { DoneRun } from './study.js';

/** A key for what determines step time apart from the model: device, backend, precision, batch and sequence length. */
export function machineOf({ row }: DoneRun): string {
  return [row.device, row.backend, row.precision, row.batch_sequences, row.sequence_length].join(' ');
}

/** Whether the step times of two runs can be compared. */
export const sameMachine = (a: DoneRun, b: DoneRun): boolean => machineOf(a) === machineOf(b);

/**
 * The step times of two models in milliseconds, means over their seeds, on the machine that trained most runs of both;
 * null if no machine timed both.
 */
export function stepTimes(a: readonly DoneRun[], b: readonly DoneRun[]): [number, number] | null {
  const ofB = byMachine(b);
  const shared = [...byMachine(a)].flatMap(([machine, first]) => {
    const second = ofB.get(machine);
    return second === undefined ? [] : [[first, second] as const];
  });
  const [most] = shared.sort(([a, b], [c, d]) => c.length + d.length - a.length - b.length);
  return most === undefined ? null : [meanMs(most[0]), meanMs(most[1])];
}

const byMachine = (runs: readonly DoneRun[]) =>
  groupBy(
    runs.filter(({ row }) => row.step_ms !== null),
    machineOf,
  );

const meanMs = (runs: readonly DoneRun[]) => mean(runs.map(({ row }) => row.step_ms as number));
