// Writes the checkpoint of step argv[3] to argv[2] and kills itself at the argv[4]-th file system call: before the call if
// argv[5] is 'before', else after it. Prints the number of calls if it survives.
import * as nodeFs from 'node:fs';
import { join } from 'node:path';
import { writeCheckpoint } from '../../dist/checkpoint/folder.js';

const [, , checkpoints, step, nth, when] = process.argv;
let calls = 0;
const fs = new Proxy(nodeFs, {
  get:
    (target, name) =>
    (...args) => {
      calls += 1;
      const dies = calls === Number(nth);
      if (dies && when === 'before') process.kill(process.pid, 'SIGKILL');
      // A write killed halfway.
      if (dies && name === 'writeSync') target.writeSync(args[0], args[1], args[2], Math.ceil(args[3] / 2));
      else if (dies) target[name](...args);
      if (dies) process.kill(process.pid, 'SIGKILL');
      return target[name](...args);
    },
});
const files = ['config.json', 'weights.safetensors', 'optimizer.safetensors', 'state.json'].map(
  (name, i) => ({
    name,
    parts: [Buffer.alloc(5000 * (i + 1), `${name} ${step}`), Buffer.from('end')],
  }),
);
writeCheckpoint(
  { checkpoints, step: Number(step), files, keep: 2, after: [join(checkpoints, '..', 'steps.csv')] },
  fs,
);
console.log(calls);
