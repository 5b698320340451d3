/** A point of a sweep: one choice on every axis of a product of settings. */
import type { WrittenNumber } from '../config/document.js';
import type { WrittenRate } from '../config/learning-rate.js';
import type { Shape } from '../config/shapes.js';
import type { Product } from '../config/sweep-file.js';
import type { RouterName } from '../model/config.js';
import type { Variant } from '../model/variants.js';
import type { Gate } from '../ops/gates.js';

export interface RoutingPoint {
  capacity: WrittenNumber;
  frequency: WrittenNumber;
  router: RouterName;
  gate: Gate;
}

export interface Point {
  product: Product;
  budget: WrittenNumber;
  variant: Variant;
  /** Null: no block is routed. */
  routing: RoutingPoint | null;
  shape: Shape;
  learningRate: WrittenRate;
  seed: WrittenNumber;
}
