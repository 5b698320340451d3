/** The signatures of formats that data sets, models and tokenizers come in. The first row that matches counts. */
import type { Category, Row } from './formats.js';
import {
  endsWith,
  has,
  isBson,
  isLlmC,
  isPickle,
  isSafetensors,
  isSentencePiece,
  isTfRecord,
  u32,
  zipEntry,
} from './signature-checks.js';

/** The characters of a little-endian number. */
const int32 = (value: number) => Buffer.from(Int32Array.of(value).buffer).toString('latin1');

export const DATA_ROWS = {
  tokens: [
    ['a token shard of llm.c', int32(20240520), { id: 'shard' }],
    ['a token shard of llm.c', int32(20240801), { id: 'shard' }],
    [
      'an evaluation file of llm.c, such as HellaSwag or MMLU',
      int32(20240522),
      { advice: 'name token shards' },
    ],
    ['a model checkpoint of llm.c', int32(20240326), { advice: 'name token shards' }],
    ['a debug state of llm.c', int32(20240327), { advice: 'name token shards' }],
    ['a tokenizer of llm.c', int32(20240328), { advice: 'name token shards' }],
    [
      'a file with a header like that of llm.c’s shards, but an unknown magic number',
      '',
      { confirm: ({ head }) => isLlmC(head) },
    ],
    ['a LitGPT packed dataset', 'LITPKDS'],
  ],
  pointer: [
    [
      'a pointer of Git LFS, not the file itself',
      'version https://git-lfs',
      { isText: true, advice: 'fetch the file with git lfs pull' },
    ],
    [
      'a pointer of git-annex, not the file itself',
      '/annex/objects/',
      { isText: true, advice: 'fetch the file with git annex get' },
    ],
  ],
  table: [
    [
      'a Parquet file',
      'PAR1',
      { id: 'parquet', confirm: (ends) => ends.tail.length === 0 || endsWith('PAR1')(ends) },
    ],
    ['a Parquet file that ends early', 'PAR1\x15', { advice: 'copy it again' }],
    ['an encrypted Parquet file', 'PARE', { confirm: endsWith('PARE') }],
    ['an Arrow file (Feather)', 'ARROW1\0\0'],
    [
      'an Arrow stream',
      '\xff\xff\xff\xff',
      {
        confirm: ({ head, size }) =>
          u32(head, 4) > 0 &&
          u32(head, 4) % 8 === 0 &&
          u32(head, 4) < Math.min(size, 2 ** 24) &&
          u32(head, 8) < 256,
      },
    ],
    ['a Feather file of version 1', 'FEA1', { confirm: endsWith('FEA1') }],
    ['an ORC file', 'ORC', { confirm: ({ tail }) => has(tail, 'ORC', tail.length - 4) }],
    ['an Avro file', 'Obj\x01'],
    ['a Stata file', '<stata_dta>', { isText: true }],
    ['an SPSS file', '$FL2@(#)'],
    ['a SAS file', '\xc2\xea\x81\x60\xb3\x14\x11\xcf', { at: [12] }],
    ['an R data file', 'RDX2\n', { confirm: ({ head }) => /[XAB]/.test(String.fromCharCode(head[5] ?? 0)) }],
    ['an R data file', 'RDX3\n', { confirm: ({ head }) => /[XAB]/.test(String.fromCharCode(head[5] ?? 0)) }],
    ['an R object (RDS)', 'X\n\0\0\0'],
    ['a Lance file', '', { confirm: endsWith('LANC') }],
    ['TFRecord records', '', { confirm: ({ head }) => isTfRecord(head) }],
    ['a RecordIO file', '\x0a\x23\xd7\xce'],
    ['a BSON file', '', { confirm: ({ head, size }) => isBson(head, size) }],
    ['a CBOR file', '\xd9\xd9\xf7'],
  ],
  arrays: [
    [
      'NumPy arrays in a ZIP archive (.npz)',
      'PK\x03\x04',
      { confirm: ({ head }) => /\.npy$/.test(zipEntry(head)) },
    ],
    [
      'a NumPy array (.npy)',
      '\x93NUMPY',
      { id: 'npy', advice: 'if it contains token ids, name it in data.train' },
    ],
    ['an HDF5 file', '\x89HDF\r\n\x1a\n', { at: [0, 512, 1024, 2048] }],
    ['a NetCDF file', 'CDF\x01'],
    ['a NetCDF file', 'CDF\x02'],
    ['a NetCDF file', 'CDF\x05'],
    ['a MATLAB file', 'MATLAB 5.0 MAT-file', { isText: true }],
    ['a FITS file', 'SIMPLE  =', { isText: true, confirm: ({ head }) => head[29] === 0x54 }],
    [
      'a PyTorch file of the old format',
      '\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20j\xa8P\x19.',
      { advice: 'it contains pickled objects; write text, JSON Lines or token shards' },
    ],
    [
      'a Python pickle',
      '\x80',
      { advice: 'write text, JSON Lines or token shards instead', confirm: isPickle },
    ],
    [
      'a Python pickle',
      '(',
      {
        isText: true,
        advice: 'write text, JSON Lines or token shards instead',
        confirm: ({ head, tail }) =>
          /^\([dl]p\d+\n/.test(head.toString('latin1', 0, 16)) && tail.at(-1) === 0x2e,
      },
    ],
    [
      'the index of a Megatron dataset',
      'MMIDIDX\0\0',
      { advice: 'its .bin file has the tokens, without a header: name that one, with token_bytes 2 or 4' },
    ],
    [
      'the index of a fairseq dataset',
      'TNTIDX\0\0',
      { advice: 'its .bin file has the tokens, without a header: name that one, with token_bytes 2 or 4' },
    ],
  ],
  weights: [
    [
      'a PyTorch checkpoint',
      'PK\x03\x04',
      {
        confirm: ({ head }) =>
          /^[^/]+\/(data\.pkl|byteorder|version|\.format_version|\.data)/.test(zipEntry(head)),
      },
    ],
    ['a safetensors file', '', { id: 'safetensors', confirm: ({ head, size }) => isSafetensors(head, size) }],
    ['a GGUF model', 'GGUF', { confirm: ({ head }) => u32(head, 4) > 0 && u32(head, 4) < 100 }],
    ['a GGML model', 'lmgg'],
    ['a GGML model', 'tjgg'],
    ['a GGML model', 'fmgg'],
    ['a TensorFlow Lite model', 'TFL3', { at: [4] }],
    [
      'an ONNX model',
      '\x08',
      {
        confirm: ({ head }) =>
          (head[1] ?? 0) < 16 &&
          head[2] === 0x12 &&
          /^(pytorch|onnx|tf2onnx|skl2onnx|paddle)/i.test(head.toString('latin1', 4, 20)),
      },
    ],
  ],
  tokenizer: [
    ['a SentencePiece model', '\x0a', { confirm: ({ head }) => isSentencePiece(head) }],
    [
      'a rank file of tiktoken',
      '',
      {
        isText: true,
        confirm: ({ head }) => /^[\w+/]+=* 0\n[\w+/]+=* 1\n/.test(head.toString('latin1', 0, 256)),
      },
    ],
    ['a list of merges (merges.txt)', '#version: 0.', { isText: true }],
  ],
} satisfies Partial<Record<Category, readonly Row[]>>;
