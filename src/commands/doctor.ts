/** `mod doctor`: this machine's hardware, which backends work on it, and what to install for the others. */

import { readFileSync } from 'node:fs';
import { type BackendReport, probeBackends } from '../backends/choose.js';
import { jsonText } from '../files/numbers.js';
import { bytes } from '../format.js';
import { describeMachine, freeDiskBytes, type Machine } from '../machine.js';
import { programVersion } from '../results/provenance.js';

export interface Diagnosis {
  version: string;
  node: { version: string; needed: string };
  machine: Machine;
  disk: { folder: string; freeBytes: number };
  backends: BackendReport[];
  /** The backend that `--backend auto` selects; null if none works. */
  auto: string | null;
}

/** Prints the diagnosis. Changes nothing; a backend that does not work is not an error. */
export async function doctorCommand(
  { results, json }: { results: string; json: boolean },
  out: (text: string) => void,
): Promise<void> {
  const backends = await probeBackends();
  const manifest = new URL('../../package.json', import.meta.url);
  const { engines } = JSON.parse(readFileSync(manifest, 'utf8')) as { engines: { node: string } };
  const diagnosis: Diagnosis = {
    version: programVersion(),
    node: { version: process.versions.node, needed: engines.node },
    machine: describeMachine(),
    disk: { folder: results, freeBytes: freeDiskBytes(results) },
    backends,
    auto: backends.find(({ usable }) => usable)?.name ?? null,
  };
  out(json ? jsonText(diagnosis, 1) : report(diagnosis));
}

function report({ version, node, machine, disk, backends, auto }: Diagnosis): string {
  const gpus = machine.gpus.map(
    (gpu) =>
      `${gpu.name}, ${bytes(gpu.memoryBytes)}, driver ${gpu.driver}, compute capability ${gpu.computeCapability}`,
  );
  const facts: [string, string][] = [
    ['mod', version],
    ['Node', `${node.version} (required: ${node.needed})`],
    ['processor', `${machine.processor}, ${machine.cores} cores, ${machine.threads} threads`],
    ['memory', `${bytes(machine.freeMemoryBytes)} free of ${bytes(machine.memoryBytes)}`],
    ['disk', `${bytes(disk.freeBytes)} free for ${disk.folder}`],
    ...(gpus.length === 0 ? ['none found by nvidia-smi'] : gpus).map((gpu): [string, string] => ['GPU', gpu]),
  ];
  const lines = facts.map(([name, fact]) => `${name.padEnd(11)}${fact}`);
  return [
    lines.join('\n'),
    backends.map(describe).join('\n'),
    auto === null ? 'no backend works on this machine' : `--backend auto selects ${auto}`,
  ].join('\n\n');
}

function describe({ name, usable, device, reason, advice }: BackendReport): string {
  const state = usable ? `usable, on ${device}` : `not usable: ${reason}`;
  const more = advice.map((line) => `\n${' '.repeat(11)}${line}`);
  return `${name.padEnd(11)}${state}${more.join('')}`;
}
