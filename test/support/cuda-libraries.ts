/** NVIDIA's compilers where there is no GPU: `npm run cuda:libraries` brings them; tests that need them say so. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findLibraries } from '../../src/backends/cuda/driver/libraries.js';

const root = join(import.meta.dirname, '../..');
const folder = join(root, '.cuda');

/** Libraries of .cuda, and of this machine where it has its own. */
export const libraries = existsSync(folder) ? findLibraries({}, () => [folder]) : findLibraries();

const missing = (['nvrtc', 'cudnn'] as const).filter((name) => libraries[name].path === null);
if (missing.length > 0) console.info(`skipped, ${missing.join(' and ')} not here: npm run cuda:libraries`);
