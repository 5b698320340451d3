/** The thread that tokenizes parts, one after another. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Part, preparePart } from './prepare.js';
import { failure, type WorkerMessage, type WorkerSetup } from './prepare-messages.js';
import { openTokenizer } from './tokenizers.js';

const { settings, folder, skipBad } = workerData as WorkerSetup;
const tokenizer = openTokenizer(settings.tokenizer, folder);
const send = (message: WorkerMessage) => parentPort?.postMessage(message);

parentPort?.on('message', async (part: Part) => {
  try {
    const onRead = (bytes: number) => send({ type: 'read', bytes });
    send({
      type: 'done',
      result: await preparePart(part, settings, await tokenizer, folder, { onRead, skipBad }),
    });
  } catch (error) {
    send(failure(error));
  }
});
