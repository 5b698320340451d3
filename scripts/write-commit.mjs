/**
 * Writes the commit that is built to dist/commit.json, from which a package without a git repository reads it. npm pack and npm
 * publish build first.
 */
import { execFileSync } from 'node:child_process';
import { realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = join(root, 'dist/commit.json');

/** HEAD of the project's own repository; null in a copy without one, or in a repository that contains the copy. */
function headCommit() {
  // In a git hook these variables would point git at the hook's repository.
  const { GIT_DIR: _dir, GIT_WORK_TREE: _tree, GIT_INDEX_FILE: _index, ...env } = process.env;
  try {
    const args = ['-C', root, 'rev-parse', '--show-toplevel', 'HEAD'];
    const options = { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    const [top, commit] = execFileSync('git', args, options).split('\n');
    return realpathSync(top) === realpathSync(root) ? commit : null;
  } catch {
    return null;
  }
}

const gitHead = headCommit();
if (gitHead === null) rmSync(target, { force: true });
else writeFileSync(target, `${JSON.stringify({ gitHead })}\n`);
