/**
 * Reverse-mode differentiation by a short tape: an op records what it saved, the backward pass walks back once and
 * frees every saved activation and every incoming gradient as soon as it is used.
 */
import { add, keep, type Tensor, tidy } from '@tensorflow/tfjs-core';

/** A trained tensor, its gradient once a backward pass has run, and whether weight decay applies to it. */
export class Parameter {
  grad: Tensor | null = null;

  constructor(
    readonly name: string,
    public value: Tensor,
    /** The tensors of a checkpoint that it holds, stacked by rows: q, k and v are one parameter. */
    readonly tensorNames: readonly string[] = [name],
  ) {}

  /** Weight decay is for matrices; gains and biases keep their size. */
  get decays(): boolean {
    return this.value.rank >= 2;
  }

  clearGrad(): void {
    this.grad?.dispose();
    this.grad = null;
  }

  /** Adds to the gradient; the addend is taken over. */
  addGrad(addend: Tensor): void {
    if (this.grad === null) {
      this.grad = keep(addend);
      return;
    }
    this.setGrad(add(this.grad, addend));
    addend.dispose();
  }

  /** The gradient from here on, of an op that may have added to the one before while it computed. */
  setGrad(gradient: Tensor): void {
    if (this.grad !== gradient) this.grad?.dispose();
    this.grad = keep(gradient);
  }
}

export type Differentiable = Tensor | Parameter;

/** What a backward function may ask about the gradients that it is about to give. */
export interface InputGradients {
  /** Whether anybody needs the gradient of input i: a null in its place is fine where not. */
  needed(i: number): boolean;
  /**
   * The gradient of input i so far, for an op that adds while it computes: what it then returns for i is the new
   * gradient, no longer an addend, and the old one must not be used again.
   */
  gradAccum(i: number): Tensor | undefined;
  /** Frees a saved tensor that the backward function has no more use for, before it makes the next one. */
  done(saved: Tensor): void;
}

/** From the gradient of each output to the gradient, or addend to it, of each input. */
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

/** An output to start from, and the gradient of the total loss with respect to it. The tape takes the gradient over. */
export interface OutputGradient {
  output: Tensor;
  gradient: Tensor;
}

export class Tape {
  private readonly entries: Entry[] = [];
  private readonly tracked = new Set<number>();
  private readonly gradients = new Map<number, Tensor>();
  /** How many entries still need a saved tensor. */
  private readonly uses = new Map<number, number>();

  /**
   * Records one op. `saved` are the activations that `backward` reads: they outlive the scope that they were made
   * in. An op none of whose inputs leads to a parameter is not recorded, so its activations are freed with their scope.
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
      backward: backward as Backward, // called with one gradient an output
    });
  }

  needsGradient(input: Differentiable): boolean {
    return input instanceof Parameter || this.tracked.has(input.id);
  }

  /**
   * Walks back over the recorded ops and adds to every parameter's `grad` the gradient of the total loss, given its gradients
   * with respect to some outputs. The tape is empty afterwards.
   */
  backward(outputGradients: OutputGradient[]): void {
    for (const { output, gradient } of outputGradients) this.contribute(output, keep(gradient));
    for (let entry = this.entries.pop(); entry !== undefined; entry = this.entries.pop()) this.step(entry);
    this.tracked.clear();
  }

  /** Frees what is saved, for a step that is given up. */
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
    const asked = new Set<number>();
    const given = entry.backward(incoming, {
      needed: (i) => this.needsGradient(entry.inputs[i] as Differentiable),
      gradAccum: (i) => {
        asked.add(i);
        return this.gradientOf(entry.inputs[i] as Differentiable) ?? undefined;
      },
      done: (saved) => {
        entry.saved.splice(entry.saved.indexOf(saved), 1);
        this.release([saved]);
      },
    });
    entry.inputs.forEach((input, i) => {
      const gradient = given[i] ?? null;
      if (gradient === null || !this.needsGradient(input)) return;
      if (asked.has(i)) {
        this.replace(input, keep(gradient));
      } else if (incoming.includes(gradient)) {
        // A gradient that passes through unchanged is handed on; a second taker gets a handle of its own.
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

  /** Adds a gradient that the tape owns from here on. */
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
    this.replace(input, keep(add(gradAccum, addend)));
    addend.dispose();
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

/** Frees a tensor unless a tape still needs it. */
export function discard(tensor: Tensor): void {
  if (!tensor.kept) tensor.dispose();
}
