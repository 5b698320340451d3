/** The examples match the program. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { shard } from '../../src/cli-options.js';

it('the Kubernetes job has one pod per shard and an existing sweep file', () => {
  const [job] = parseAllDocuments(readFileSync('examples/kubernetes.yaml', 'utf8')).map((document) =>
    document.toJS(),
  );
  const { completions, completionMode, template } = job.spec;
  expect(completionMode).toBe('Indexed');
  const [{ command, args }] = template.spec.containers;
  expect(command.slice(1, 3)).toEqual(['bin/mod.js', 'sweep']);
  expect(existsSync(command[3])).toBe(true);
  const word = (index: number) => args[1].replace('$(JOB_COMPLETION_INDEX)', String(index));
  expect(args[0]).toBe('--shard');
  expect(shard(word(completions - 1))).toEqual({ index: completions - 1, of: completions });
  expect(() => shard(word(completions))).toThrow();
});
