/** The tables of routers, variants and routing modes refer to one another completely: no entry is out of reach. */
import { expect, it } from 'vitest';
import { CAUSAL_MODES, ROUTER_NAMES } from '../../src/model/config.js';
import { ROUTERS } from '../../src/model/routers.js';
import { VARIANT_NAMES, VARIANTS } from '../../src/model/variants.js';

it('every variant is the dense one, that of one router, or has experts', () => {
  const routed = ROUTER_NAMES.map((router) => ROUTERS[router].variant);
  const experts = VARIANT_NAMES.filter((variant) => VARIANTS[variant].experts !== null);
  expect(['baseline', ...routed, ...experts].sort()).toEqual([...VARIANT_NAMES].sort());
});

it('every variant has a label of its own', () => {
  const labels = VARIANT_NAMES.map((variant) => VARIANTS[variant].label);
  expect(new Set(labels).size).toBe(labels.length);
});

it.each(CAUSAL_MODES)('a router has the mode %s', (mode) => {
  expect(ROUTER_NAMES.filter((router) => ROUTERS[router].causalModes.includes(mode))).not.toEqual([]);
});
