/** Model shapes: the rows of Chinchilla's table A9, or custom ones. */

export interface Shape {
  /** As in run ids: `217M` for a row of table A9, `d256l4` for a custom shape. */
  name: string;
  d_model: number;
  n_layers: number;
  n_heads: number;
  d_ff: number;
}

const HEAD_SIZE = 64;
const MLP_RATIO = 4;

/** Millions of parameters, d_model, n_heads, n_layers of Hoffmann et al. 2022, table A9; d_ff is 4 · d_model in every row. */
const TABLE_A9: [millions: number, d_model: number, n_heads: number, n_layers: number][] = [
  [44, 512, 8, 8],
  [57, 576, 9, 9],
  [74, 640, 10, 10],
  [90, 640, 10, 13],
  [106, 640, 10, 16],
  [117, 768, 12, 12],
  [140, 768, 12, 15],
  [163, 768, 12, 18],
  [175, 896, 14, 14],
  [196, 896, 14, 16],
  [217, 896, 14, 18],
  [251, 1024, 16, 16],
  [278, 1024, 16, 18],
  [306, 1024, 16, 20],
  [425, 1280, 10, 18],
  [489, 1280, 10, 21],
  [509, 1408, 11, 18],
  [552, 1280, 10, 24],
  [587, 1408, 11, 21],
  [632, 1536, 12, 19],
  [664, 1408, 11, 24],
  [724, 1536, 12, 22],
  [816, 1536, 12, 25],
  [893, 1792, 14, 20],
  [1018, 1792, 14, 23],
  [1143, 1792, 14, 26],
  [1266, 2048, 16, 22],
  [1424, 2176, 17, 22],
  [1429, 2048, 16, 25],
  [1593, 2048, 16, 28],
];

/** Table A9 of Hoffmann et al. 2022, smallest first. The names count parameters with the paper's vocabulary. */
export const CHINCHILLA_SHAPES: readonly Shape[] = TABLE_A9.map(([millions, d_model, n_heads, n_layers]) => ({
  name: `${millions}M`,
  d_model,
  n_layers,
  n_heads,
  d_ff: MLP_RATIO * d_model,
}));

/**
 * The number of heads: of size 64 if that divides d_model, otherwise of the even size nearest to it in ratio, the smaller
 * of two equally near. Null if d_model is odd: rotary positions pair the halves of a head.
 */
export function defaultHeads(d_model: number): number | null {
  if (d_model % 2 !== 0) return null;
  let below = HEAD_SIZE;
  while (d_model % below !== 0) below -= 2;
  // The larger size is nearer while above / 64 < 64 / below.
  const nearer = (above: number) => above * below < HEAD_SIZE * HEAD_SIZE;
  let above = HEAD_SIZE;
  while (nearer(above) && d_model % above !== 0) above += 2;
  return d_model / (nearer(above) ? above : below);
}

/** The shape of these sizes, with the name of its row in table A9 if there is one. */
export function shapeOf({ d_model, n_layers, n_heads, d_ff }: Omit<Shape, 'name'>): Shape {
  const custom = customShape(d_model, n_layers, n_heads, d_ff);
  const isSame = (row: Shape) =>
    customShape(row.d_model, row.n_layers, row.n_heads, row.d_ff).name === custom.name;
  return CHINCHILLA_SHAPES.find(isSame) ?? custom;
}

/** The shape of a name in a run id, `217M` or `d256l4`; null for other text and for invalid shapes. */
export function shapeNamed(name: string): Shape | null {
  const row = CHINCHILLA_SHAPES.find((shape) => shape.name === name);
  if (row !== undefined) return row;
  const sizes = sizesNamed(name);
  if (sizes === null || shapeProblem(name) !== null) return null;
  const { d_model, n_layers, n_heads, d_ff } = sizes;
  return customShape(d_model, n_layers, n_heads, d_ff);
}

/** Why the shape of a name such as `d257l4` is invalid; null if it is valid, and for text that is not a shape name. */
export function shapeProblem(name: string): string | null {
  const sizes = sizesNamed(name);
  if (sizes === null) return null;
  const zero = Object.entries(sizes).find(([, size]) => size === 0);
  if (zero !== undefined) return `${zero[0]} must be above 0`;
  const { d_model, n_heads } = sizes;
  if (d_model % 2 !== 0) return `d_model ${d_model} is odd, and rotary positions pair its halves`;
  if (n_heads === undefined || d_model % (2 * n_heads) === 0) return null;
  return `n_heads ${n_heads} does not divide d_model ${d_model} into heads of an even size`;
}

function sizesNamed(name: string): (Pick<Shape, 'd_model' | 'n_layers'> & Partial<Shape>) | null {
  const sizes = /^d(\d+)l(\d+)(?:h(\d+))?(?:f(\d+))?$/.exec(name);
  if (sizes === null) return null;
  const [, d_model, n_layers, heads, ff] = sizes;
  return {
    d_model: Number(d_model),
    n_layers: Number(n_layers),
    ...(heads === undefined ? {} : { n_heads: Number(heads) }),
    ...(ff === undefined ? {} : { d_ff: Number(ff) }),
  };
}

/** A custom shape of an even d_model; its name has the heads and d_ff only if they differ from the defaults. */
export function customShape(d_model: number, n_layers: number, heads?: number, ff?: number): Shape {
  const usualHeads = defaultHeads(d_model) as number;
  const n_heads = heads ?? usualHeads;
  const d_ff = ff ?? MLP_RATIO * d_model;
  const name = [
    `d${d_model}l${n_layers}`,
    n_heads === usualHeads ? '' : `h${n_heads}`,
    d_ff === MLP_RATIO * d_model ? '' : `f${d_ff}`,
  ].join('');
  return { name, d_model, n_layers, n_heads, d_ff };
}
