/** Embedding rows, and their gradient without atomics: embedding.cu. */
import { embeddingGradKernel, embeddingKernel } from '../../../ops/embedding.js';
import { type Call, cudaKernel, rowsOf } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address } from '../driver/kernel-library.js';
import { vectorOf, WARP, warpRows } from './launch-shapes.js';

/** Pairs that a block sorts, as in embedding.cu. */
const PAIRS_PER_BLOCK = 2048;
const DIGITS = 256;
const BITS_PER_DIGIT = 8;
/** Sorted tokens whose rows a block sums: few enough for many blocks, enough that few runs cross blocks. */
const RUN_CHUNK = 64;

const embedding = cudaKernel(embeddingKernel, (call, { table, tokens }) => {
  const [, width] = rowsOf(table);
  const y = call.makeActivation([...tokens.shape, width]);
  call.launch('embedding', `embedding${vectorOf(width)}`, warpRows(tokens.size), [
    address(call.float(table)),
    address(call.int(tokens)),
    address(call.at(y)),
    tokens.size,
    width,
  ]);
  return [y];
});

/** Sorts the tokens by value, then sums the rows of equal tokens in the order of their positions: deterministic. */
const embeddingGrad = cudaKernel(embeddingGradKernel, (call, { dy, tokens, gradAccum }, { vocabSize }) => {
  const [count, width] = rowsOf(dy);
  const { sum: dtable, accumulate } = call.accumulator(gradAccum, [vocabSize, width], 'float32');
  if (!accumulate) call.backend.driver.zero(call.at(dtable), 4 * vocabSize * width);
  const { keys, positions } = sortTokens(call, call.int(tokens), count, vocabSize);
  const chunks = Math.ceil(count / RUN_CHUNK);
  const heads = address(call.scratch(4 * chunks * width));
  const tails = address(call.scratch(4 * chunks * width));
  const vector = width % 2 === 0 ? 2 : 1;
  const block = Math.min(256, WARP * Math.ceil(width / vector / WARP));
  const shape = { grid: [chunks, Math.ceil(width / vector / block), 1], block } as const;
  const sizes = [count, width, RUN_CHUNK];
  const table = address(call.at(dtable));
  const from = [address(call.activation(dy)), address(keys), address(positions)];
  call.launch('embedding', `sumRuns${vector}`, shape, [...from, table, heads, tails, ...sizes]);
  call.launch('embedding', `joinRuns${vector}`, shape, [address(keys), table, heads, tails, ...sizes]);
  return [dtable];
});

export const embeddingKernels = [embedding, embeddingGrad];

/** The tokens in ascending order, by a stable sort, and the position of each. All tokens are below `limit`. */
function sortTokens(
  call: Call,
  tokens: Address,
  count: number,
  limit: number,
): { keys: Address; positions: Address } {
  const blocks = Math.ceil(count / PAIRS_PER_BLOCK);
  const counts = call.scratch(4 * DIGITS * blocks);
  const passes = Math.max(1, Math.ceil(Math.ceil(Math.log2(limit)) / BITS_PER_DIGIT));
  const shape = { grid: blocks, block: DIGITS };
  let [keys, positions]: [Address, Address | null] = [tokens, null];
  for (let pass = 0; pass < passes; pass++) {
    const shift = BITS_PER_DIGIT * pass;
    const [keysOut, positionsOut] = [call.scratch(4 * count), call.scratch(4 * count)];
    call.launch('embedding', 'countDigits', shape, [address(keys), address(counts), count, shift]);
    call.launch('embedding', 'scanCounts', { grid: 1, block: 1024 }, [address(counts), DIGITS * blocks]);
    call.launch('embedding', 'moveByDigit', shape, [
      address(keys),
      address(positions),
      address(counts),
      address(keysOut),
      address(positionsOut),
      count,
      shift,
    ]);
    [keys, positions] = [keysOut, positionsOut];
  }
  return { keys, positions: positions as Address };
}
