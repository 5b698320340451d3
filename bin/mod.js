#!/usr/bin/env node
import fs from 'node:fs';
import { openFileLimit } from '../dist/machine.js';

// Node reads the modules of a program at the same time, up to 150 of them; under a lower limit of open files, one by one.
if (openFileLimit() < 256) fs.promises.readFile = async (path, options) => fs.readFileSync(path, options);

const { main } = await import('../dist/cli.js');
await main(process.argv);
