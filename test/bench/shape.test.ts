/** Shapes of `mod bench --shape`: dense, routed, with experts. */
import { describe, expect, it } from 'vitest';
import { memoryShapes } from '../../src/bench/memory.js';
import { parseShape } from '../../src/bench/shape.js';

describe('a shape', () => {
  it.each([
    ['d64l2t32b4v256', null],
    ['d64l2t32b4v256e8', { count: 8, no_ops: 0, capacity_factor: 1.25 }],
    ['d64l2t32b4v256e4x1.5n2', { count: 4, no_ops: 2, capacity_factor: 1.5 }],
  ])('%s has experts %j', (text, experts) => {
    const { model } = parseShape(text);
    if (experts === null) expect(model.experts).toBeNull();
    else expect(model.experts).toMatchObject(experts);
  });

  it('is routed and has experts if it names both', () => {
    const { model } = parseShape('d64l2t32b4v256c0.125f2e4');
    expect(model.routing).toMatchObject({ capacity: 0.125, frequency: 2 });
    expect(model.experts?.count).toBe(4);
  });

  it.each([
    ['d64l2t32b4v256x1.25', 'require e (experts)'],
    ['d64l2t32b4v256e1.5', 'experts must be a whole number above 0'],
    ['d64l2t32b4v256e4n0', 'no-op experts must be a whole number above 0'],
    ['d64l2t32b4v256e4x0', 'the capacity factor must be above 0'],
    ['d32l2t4b1v32c0.1f2', 'capacity 0.1 of 4 tokens selects none'],
    ['d32l2t32b1v32c0.5f4', 'routing frequency 4 is above the 2 layers: no block would be routed'],
    ['d32l2t4b1v32c0.1f4', 'no block would be routed; capacity 0.1 of 4 tokens selects none'],
  ])('%s is rejected: %s', (text, message) => {
    expect(() => parseShape(text)).toThrow(message);
  });
});

describe('--memory', () => {
  it('adds a routed model of the same shape and a deeper one with nearly the same FLOPs', () => {
    expect(memoryShapes('d64l4t128b4v256')).toEqual([
      'd64l4t128b4v256',
      'd64l4t128b4v256c0.125f2',
      'd64l7t128b4v256c0.125f2',
    ]);
  });

  it('rejects a shape that is routed already', () => {
    expect(() => memoryShapes('d64l4t128b4v256c0.125f2')).toThrow('write d64l4t128b4v256');
  });
});
