/**
 * `npm run pack` writes pack/mod-<version>-linux-x64.tar.xz, which runs `mod` on Linux x64 without Node and without network:
 * the stripped Node binary, the files of the npm package (compiled program, configs, docs, licence), its dependencies without
 * types, sources and documentation, and the text that quick.yaml trains on. NVIDIA's libraries must be installed there.
 *
 *   tar -xf mod-0.1.0-linux-x64.tar.xz && mod-0.1.0-linux-x64/mod bench
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAX_BYTES = 50 * 2 ** 20;
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const name = `mod-${manifest.version}-linux-x64`;
const target = join(root, 'pack', name);

/** Files that npm adds to `files` of package.json. */
const NPM_ADDS = ['README.md', 'LICENSE'];
/** The files used of tfjs' packages, which contain seven builds each, sources and tests. */
const TFJS_FILES = /^(package\.json|dist\/tf-(core|backend-wasm)\.(node|fesm)\.js|dist\/[^/]+\.wasm)$/;
/** Files that a package needs at run time, without documentation, types and build files. */
const RUNS = /\.(js|cjs|mjs|json|node|wasm|ttf)$/;
const UNUSED = /^(doc|docs|vendor|test|tests|demo|musl_x64)(\/|$)/;
/** Binaries for other systems, and gpt-tokenizer's other builds and vocabularies (only GPT-2's is used). */
const OTHERS =
  /\.(android|darwin|win32|linux-arm|linux-x64-musl)[^/]*\.node$|gpt-tokenizer\/(cjs|data|src)(\/|$)|bpeRanks\/(?!r50k)/;
const UNUSED_PACKAGES = /@types\/|@webgpu\/|tfjs-backend-cpu/;

rmSync(target, { recursive: true, force: true });
mkdirSync(join(target, 'node_modules'), { recursive: true });
for (const path of [...manifest.files, ...NPM_ADDS])
  cpSync(join(root, path), join(target, path), {
    recursive: true,
    filter: (file) => !/\.map$|__pycache__/.test(file),
  });
cpSync(join(root, 'package.json'), join(target, 'package.json'));
for (const folder of productionPackages()) copyPackage(folder);

const node = join(target, 'node');
cpSync(process.execPath, node);
try {
  execFileSync('strip', [node]);
} catch {
  console.warn('strip not found: the archive contains the unstripped Node binary and is larger');
}
writeFileSync(
  join(target, 'mod'),
  '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nexec "$here/node" "$here/bin/mod.js" "$@"\n',
);
chmodSync(join(target, 'mod'), 0o755);

// Fails here if a file is missing, rather than on a GPU machine.
execFileSync(join(target, 'mod'), ['--help'], { env: {}, stdio: ['ignore', 'ignore', 'inherit'] });

const archive = `${target}.tar.xz`;
execFileSync('tar', ['-C', join(root, 'pack'), '-cJf', archive, name], {
  env: { ...process.env, XZ_OPT: process.env.XZ_OPT ?? '-6 -T0' },
});
const { size } = statSync(archive);
console.log(`${relative(process.cwd(), archive)}: ${(size / 2 ** 20).toFixed(1)} MiB`);
if (size > MAX_BYTES) {
  console.error(`the archive is larger than the limit of ${MAX_BYTES / 2 ** 20} MiB`);
  process.exitCode = 1;
}

/** Folders of the production dependencies, including optional ones for single platforms. */
function productionPackages() {
  const printed = execFileSync('npm', ['ls', '--omit=dev', '--parseable', '--all'], {
    cwd: root,
    encoding: 'utf8',
  });
  return printed
    .split('\n')
    .slice(1)
    .filter(
      (path) => path !== '' && existsSync(path) && !UNUSED_PACKAGES.test(path) && !path.includes('tfjs-node'),
    );
}

function copyPackage(folder) {
  const place = relative(root, folder);
  const tfjs = place.includes('@tensorflow');
  cpSync(folder, join(target, place), {
    recursive: true,
    filter: (path) => {
      const inside = relative(folder, path);
      if (OTHERS.test(path)) return false;
      if (tfjs && statSync(path).isDirectory()) return inside === '' || inside === 'dist';
      if (inside === '' || statSync(path).isDirectory())
        return !UNUSED.test(inside) && inside !== 'node_modules';
      return tfjs ? TFJS_FILES.test(inside) : RUNS.test(inside) && !UNUSED.test(inside);
    },
  });
}
