/** Loaded by `node --import` in a process that a test starts: puts the fake driver in place; called as nvidia-smi, answers as it. */
import { replaceLibraries } from './install.js';
import { nvidiaSmi } from './nvidia-smi.js';
import type { FakeDriverOptions } from './options.js';

const { folder, options } = JSON.parse(process.env.MOD_FAKE_DRIVER ?? '') as {
  folder: string;
  options: FakeDriverOptions;
};

if (process.argv[2] === 'nvidia-smi') {
  process.stdout.write(nvidiaSmi(options, process.argv.slice(3)));
  process.exit();
}
const { device } = replaceLibraries(folder, options, true);
process.on('exit', () => device.report());
