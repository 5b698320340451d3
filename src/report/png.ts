/** Renders a figure as PNG for slides and papers: on white, at twice the size, in a font from a package. */
import { createRequire } from 'node:module';
import { Resvg } from '@resvg/resvg-js';

const require = createRequire(import.meta.url);
/** From a package, since training machines often have no fonts. */
const fontFiles = ['400Regular/PTSans_400Regular.ttf', '700Bold/PTSans_700Bold.ttf'].map((file) =>
  require.resolve(`@expo-google-fonts/pt-sans/${file}`),
);
const SCALE = 2;

/** PNG bytes of an SVG document. */
export function toPng(svg: string): Uint8Array {
  const font = {
    fontFiles,
    loadSystemFonts: false,
    defaultFontFamily: 'PT Sans',
    sansSerifFamily: 'PT Sans',
  };
  return new Resvg(svg, { background: 'white', fitTo: { mode: 'zoom', value: SCALE }, font })
    .render()
    .asPng();
}
