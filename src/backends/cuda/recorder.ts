/** Records device work as a CUDA graph: one launch replays what took hundreds. */
import { keep, type Tensor, tidy } from '@tensorflow/tfjs-core';
import type { Recorder, Recording } from '../../ops/recording.js';
import type { CudaBackend } from './backend.js';

export class CudaRecorder implements Recorder {
  constructor(private readonly backend: CudaBackend) {}

  record(body: () => Tensor[]): Recording {
    const { backend } = this;
    // Blocks that the graph writes to must not be handed to anybody else while it lives: a pool of its own.
    const { result, pool } = backend.device.inOwnPool(() => {
      backend.beginRecording();
      try {
        const outputs = tidy(() => body().map((tensor) => keep(tensor)));
        return { outputs, graph: backend.driver.endCapture() };
      } catch (error) {
        backend.driver.abandonCapture();
        throw error;
      } finally {
        backend.endRecording();
      }
    });
    const { outputs, graph } = result;
    return {
      outputs,
      replay: () => backend.driver.launchGraph(graph),
      dispose: () => {
        backend.driver.synchronize();
        backend.driver.destroyGraph(graph);
        for (const output of outputs) output.dispose();
        backend.device.dissolve(pool);
      },
    };
  }

  overwrite(tensor: Tensor, values: Float32Array | Int32Array): void {
    this.backend.overwrite(tensor, values);
  }
}
