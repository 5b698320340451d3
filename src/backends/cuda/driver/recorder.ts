/** Records device work as a CUDA graph, whose one launch replays hundreds of launches. */
import { keep, type Tensor, tidy } from '@tensorflow/tfjs-core';
import type { Recorder, Recording } from '../../../ops/recording.js';
import type { CudaBackend } from '../backend.js';
import type { Address } from './driver.js';
import { BYTES_PER_ELEMENT } from './storage.js';

export class CudaRecorder implements Recorder {
  /** Events of the last recording. */
  private readonly marks: Address[] = [];

  constructor(private readonly backend: CudaBackend) {}

  record(body: () => Tensor[]): Recording {
    const { backend } = this;
    for (const event of this.marks.splice(0)) backend.driver.destroyEvent(event);
    // Blocks that the graph writes to must not be allocated for anything else while it exists, so it has its own pool. The
    // trim returns free memory to the driver for that pool.
    backend.device.trim();
    const { result, pool } = backend.device.inOwnPool(() => {
      backend.beginRecording();
      let outputs: Tensor[] = [];
      try {
        outputs = tidy(() => body().map((tensor) => keep(tensor)));
        return { outputs, graph: backend.driver.endCapture() };
      } catch (error) {
        backend.driver.abandonCapture();
        for (const output of outputs) output.dispose();
        backend.abandonRecording();
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

  mark(): void {
    const event = this.backend.driver.event(true);
    this.backend.driver.recordInGraph(event);
    this.marks.push(event);
  }

  intervals(): number[] {
    const { driver } = this.backend;
    driver.synchronize();
    return this.marks.slice(1).map((event, i) => driver.elapsed(this.marks[i] as Address, event));
  }

  bytesOf(tensor: Tensor): number {
    const { elements, storage } = this.backend.dataOf(tensor);
    return elements * BYTES_PER_ELEMENT[storage];
  }

  overwrite(tensor: Tensor, values: Float32Array | Int32Array): void {
    this.backend.overwrite(tensor, values);
  }
}
