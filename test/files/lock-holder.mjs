// A process that takes the lock of argv[2], prints a line and waits. Uses the compiled program, which npm test builds.
import { spawn } from 'node:child_process';
import { acquireLock } from '../../dist/files/lock.js';

const [, , path, withChild] = process.argv;
try {
  acquireLock(path, 'holder of a test');
  // A child that outlives this process would keep the lock if it inherited the descriptor.
  const child = withChild === 'child' ? spawn('sleep', ['60'], { stdio: 'ignore', detached: true }) : null;
  console.log(child?.pid ?? 'held');
} catch (error) {
  console.log(`${error.name} ${error.message}`);
}
setTimeout(() => {}, 60_000);
