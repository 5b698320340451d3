/** NVIDIA's compilers on machines without a GPU: `npm run cuda:libraries` installs them; tests that need them report them missing. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findLibraries } from '../../src/backends/cuda/driver/libraries.js';

const root = join(import.meta.dirname, '../..');
const folder = join(root, '.cuda');

/** Libraries in .cuda, else those of this machine. */
export const libraries = existsSync(folder) ? findLibraries({}, () => [folder]) : findLibraries();

const missing = (['nvrtc', 'cudnn'] as const).filter((name) => libraries[name].path === null);
if (missing.length > 0) console.info(`skipped, ${missing.join(' and ')} missing: npm run cuda:libraries`);
