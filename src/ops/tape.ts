/**
 * Reverse-mode differentiation by a short tape: each op records the activations that it saved; the backward pass walks the
 * tape backwards once and frees every saved activation and every incoming gradient as soon as it has been used.
 */
import { add, keep, type Tensor, tidy } from '@tensorflow/tfjs-core';

/** A trainable tensor and its accumulated gradient, null before a backward pass. */
export class Parameter {
  grad: Tensor | null = null;

  constructor(
    readonly name: string,
    public value: Tensor,
    /** The checkpoint tensors that it stacks by rows: q, k and v are one parameter. */
    readonly tensorNames: readonly string[] = [name],
  ) {}

  clearGrad(): void {
    this.grad?.dispose();
    this.grad = null;
  }

  /** Adds to the gradient. The parameter takes ownership of the addend. */
  addGrad(addend: Tensor): void {
    if (this.grad === null) {
      this.grad = keep(addend);
      return;
    }
    try {
      this.setGrad(add(this.grad, addend));
    } finally {
      addend.dispose();
    }
  }

  /** Replaces the gradient, by an op that has added the previous one to its result. Takes ownership. */
  setGrad(gradient: Tensor): void {
    if (this.grad !== gradient) this.grad?.dispose();
    this.grad = keep(gradient);
  }
}

export type Differentiable = Tensor | Parameter;

/** Access to the gradients of an op's inputs, for its backward function. */
export interface InputGradients {
  /** Whether the gradient of input i is used; if not, the backward function may return null for it. */
  needed(i: number): boolean;
  /**
   * The accumulated gradient of input i, for an op that adds to it while it computes. The op then returns the new accumulated
   * gradient for i instead of an addend, and the old one is consumed.
   */
  gradAccum(i: number): Tensor | undefined;
  /** Releases a saved tensor before the backward function returns, to lower the peak of memory. */
  done(saved: Tensor): void;
}

/** Computes from the gradients of the outputs the gradient of each input, or an addend to it. */
export type Backward<O extends readonly Tensor[] = Tensor[]> = (
  outputGradients: { [K in keyof O]: Tensor },
  inputs: InputGradients,
) => (Tensor | null)[];

interface Entry {
  outputs: number[];
  inputs: Differentiable[];
  saved: Tensor[];
  backward: Backward;
}

/** An output and the gradient of the total loss with respect to it. The tape takes ownership of the gradient. */
export interface OutputGradient {
  output: Tensor;
  gradient: Tensor;
}

export class Tape {
  private readonly entries: Entry[] = [];
  private readonly tracked = new Set<number>();
  private readonly gradients = new Map<number, Tensor>();
  /** The number of entries that still need a saved tensor, by its id. */
  private readonly uses = new Map<number, number>();

  /**
   * Records one op. `saved` are the activations that `backward` reads: they outlive the scope that they were made in. An op
   * whose inputs depend on no parameter is not recorded, so its activations are freed with their scope.
   */
  record<O extends readonly Tensor[] | []>(
    outputs: O,
    inputs: Differentiable[],
    saved: Tensor[],
    backward: Backward<O>,
  ): void {
    if (!inputs.some((input) => this.needsGradient(input))) return;
    for (const tensor of saved) {
      this.uses.set(tensor.id, (this.uses.get(tensor.id) ?? 0) + 1);
      keep(tensor);
    }
    for (const output of outputs) this.tracked.add(output.id);
    this.entries.push({
      outputs: outputs.map((output) => output.id),
      inputs,
      saved,
      backward: backward as Backward, // called with one gradient per output
    });
  }

  needsGradient(input: Differentiable): boolean {
    return input instanceof Parameter || this.tracked.has(input.id);
  }

  /**
   * Walks back over the recorded ops and adds the gradient of the total loss to every parameter's `grad`, starting from its
   * gradients with respect to some outputs. The tape is empty afterwards.
   */
  backward(outputGradients: OutputGradient[]): void {
    for (const { output, gradient } of outputGradients) this.contribute(output, keep(gradient));
    for (let entry = this.entries.pop(); entry !== undefined; entry = this.entries.pop()) this.step(entry);
    this.tracked.clear();
  }

  /** Frees all saved activations and gradients, for a step that is abandoned. */
  dispose(): void {
    for (const entry of this.entries) this.release(entry.saved);
    for (const gradient of this.gradients.values()) gradient.dispose();
    this.entries.length = 0;
    this.gradients.clear();
    this.tracked.clear();
  }

  private step(entry: Entry): void {
    const incoming = entry.outputs.flatMap((id) => this.gradients.get(id) ?? []);
    for (const id of entry.outputs) this.gradients.delete(id);
    if (incoming.length === entry.outputs.length) {
      const passedOn = new Set<Tensor>();
      try {
        tidy(() => this.differentiate(entry, incoming, passedOn));
      } finally {
        for (const gradient of incoming) if (!passedOn.has(gradient)) gradient.dispose();
        this.release(entry.saved);
      }
    } else if (incoming.length > 0) {
      throw new Error('the gradient of some outputs of an op is missing');
    } else {
      this.release(entry.saved);
    }
  }

  private differentiate(entry: Entry, incoming: Tensor[], passedOn: Set<Tensor>): void {
    const accumulated = new Set<number>();
    const returned = entry.backward(incoming, {
      needed: (i) => this.needsGradient(entry.inputs[i] as Differentiable),
      gradAccum: (i) => {
        accumulated.add(i);
        return this.gradientOf(entry.inputs[i] as Differentiable) ?? undefined;
      },
      done: (saved) => {
        entry.saved.splice(entry.saved.indexOf(saved), 1);
        this.release([saved]);
      },
    });
    entry.inputs.forEach((input, i) => {
      const gradient = returned[i] ?? null;
      if (gradient === null || !this.needsGradient(input)) return;
      if (accumulated.has(i)) {
        this.replace(input, keep(gradient));
      } else if (incoming.includes(gradient)) {
        // A gradient returned unchanged is passed on without a copy; a second input gets a clone.
        this.contribute(input, passedOn.has(gradient) ? keep(gradient.clone()) : gradient);
        passedOn.add(gradient);
      } else {
        this.contribute(input, keep(gradient));
      }
    });
  }

  private gradientOf(input: Differentiable): Tensor | null {
    return input instanceof Parameter ? input.grad : (this.gradients.get(input.id) ?? null);
  }

  private replace(input: Differentiable, gradient: Tensor): void {
    if (input instanceof Parameter) {
      input.setGrad(gradient);
      return;
    }
    const gradAccum = this.gradients.get(input.id);
    if (gradAccum !== gradient) gradAccum?.dispose();
    this.gradients.set(input.id, gradient);
  }

  /** Adds to an input's gradient. The tape takes ownership of the addend. */
  private contribute(input: Differentiable, addend: Tensor): void {
    if (input instanceof Parameter) {
      input.addGrad(addend);
      return;
    }
    const gradAccum = this.gradients.get(input.id);
    if (gradAccum === undefined) {
      this.gradients.set(input.id, addend);
      return;
    }
    try {
      this.replace(input, keep(add(gradAccum, addend)));
    } finally {
      addend.dispose();
    }
  }

  private release(saved: Tensor[]): void {
    for (const tensor of saved) {
      const left = (this.uses.get(tensor.id) ?? 1) - 1;
      if (left > 0) {
        this.uses.set(tensor.id, left);
      } else {
        this.uses.delete(tensor.id);
        tensor.dispose();
      }
    }
  }
}

/** Frees a tensor unless a tape has saved it. */
export function discard(tensor: Tensor): void {
  if (!tensor.kept) tensor.dispose();
}
