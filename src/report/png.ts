/** Renders a figure as PNG for slides and papers: on white, at twice the size, in a font from a package. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
/** Null without its native part, an optional package that npm leaves out under --omit=optional. */
const resvg = await import('@resvg/resvg-js').catch(() => null);
/** Why there are no PNGs; null if there are. */
export const NO_PNG =
  resvg === null
    ? 'no PNG figures, only SVG: the native part of @resvg/resvg-js is missing, which npm leaves out under --omit=optional; install without it'
    : null;
/** From a package, since training machines often have no fonts. */
const fontFiles = ['400Regular/PTSans_400Regular.ttf', '700Bold/PTSans_700Bold.ttf'].map((file) =>
  require.resolve(`@expo-google-fonts/pt-sans/${file}`),
);
const SCALE = 2;

/** PNG bytes of an SVG document; null if this installation cannot draw them. */
export function toPng(svg: string): Uint8Array | null {
  if (resvg === null) return null;
  const font = {
    fontFiles,
    loadSystemFonts: false,
    defaultFontFamily: 'PT Sans',
    sansSerifFamily: 'PT Sans',
  };
  return new resvg.Resvg(svg, { background: 'white', fitTo: { mode: 'zoom', value: SCALE }, font })
    .render()
    .asPng();
}
