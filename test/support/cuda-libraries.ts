/** NVIDIA's libraries on machines without a GPU, installed by `npm run cuda:libraries`; tests that need them are skipped without. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { findLibraries } from '../../src/backends/cuda/driver/libraries.js';

const root = join(import.meta.dirname, '../..');
const folder = join(root, '.cuda');

/** The libraries in .cuda, or those of this machine if it does not exist. */
export const libraries = existsSync(folder) ? findLibraries({}, () => [folder]) : findLibraries();

const missing = (['nvrtc', 'cudnn'] as const).filter((name) => libraries[name].path === null);
if (missing.length > 0)
  console.info(`skipped: ${missing.join(' and ')} not found; install with npm run cuda:libraries`);
