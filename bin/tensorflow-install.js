#!/usr/bin/env node
import { installTensorflow } from '../dist/backends/tensorflow/install.js';

try {
  installTensorflow(process.argv.includes('--gpu'), console.log);
} catch (error) {
  console.error(`tensorflow:install: ${error.message}`);
  process.exitCode = 1;
}
