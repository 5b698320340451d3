// @ts-check
/** Figures on the page: the nearest mark's tooltip, a legend that switches series, a run marked everywhere, downloads. */

/** @param {string} html @returns {HTMLElement} */
const element = (html) => {
  const template = document.createElement('template');
  template.innerHTML = html;
  return /** @type {HTMLElement} */ (template.content.firstElementChild);
};

/** @param {string} name @param {Blob} blob */
const save = (name, blob) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

/** A table as CSV, quoted where RFC 4180 requires it; a minus sign is a hyphen, which other programs read. @param {HTMLTableElement} table */
const csvOf = (table) =>
  [...table.rows]
    .map((row) =>
      [...row.cells]
        .map((cell) => (cell.textContent ?? '').replace(/^−(?=[\d.])/, '-'))
        .map((text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text))
        .join(','),
    )
    .join('\r\n');

/** The run that is marked, in every figure and in the table. */
let markedRun = '';
/** @param {string} run its id; empty: none */
const markRun = (run) => {
  if (run === markedRun) return;
  markedRun = run;
  for (const one of document.querySelectorAll('.same-run')) one.classList.remove('same-run');
  if (run === '') return;
  for (const one of document.querySelectorAll(`[data-run="${CSS.escape(run)}"]`))
    one.classList.add('same-run');
};

/** Shows a run in the table of runs. @param {string} run */
const goToRun = (run) => {
  const row = /** @type {HTMLElement | null} */ (
    document.querySelector(`#all-runs tr[data-run="${CSS.escape(run)}"]`)
  );
  if (row === null) return;
  row.hidden = false;
  row.tabIndex = -1;
  row.scrollIntoView({ block: 'center' });
  row.focus({ preventScroll: true });
  markRun(run);
};

/** An SVG as a file of its own: its theme's colours and font written out. @param {SVGSVGElement} svg */
const standaloneSvg = (svg) => {
  const copy = /** @type {SVGSVGElement} */ (svg.cloneNode(true));
  const style = getComputedStyle(svg);
  const page = getComputedStyle(document.documentElement);
  const text = new XMLSerializer()
    .serializeToString(copy)
    .replaceAll(/var\((--[\w-]+)\)/g, (_, name) => page.getPropertyValue(name).trim())
    .replaceAll('currentColor', style.color);
  const ground = getComputedStyle(document.body).backgroundColor;
  return text
    .replace('</desc>', `</desc><rect width="100%" height="100%" fill="${ground}"/>`)
    .replace('<svg ', `<svg color="${style.color}" `);
};

/** Marks within this many pixels of the pointer are found. */
const NEAR = 32;

/** @param {HTMLElement} frame */
const enhanceFigure = (frame) => {
  const svg = /** @type {SVGSVGElement} */ (frame.querySelector('svg'));
  const figure = /** @type {HTMLElement} */ (frame.closest('figure'));
  const name = svg.querySelector('title')?.textContent ?? '';
  const tip = frame.appendChild(element('<div class="tip" role="status"></div>'));
  const marks = [...svg.querySelectorAll('title')].flatMap((title) => {
    const mark = /** @type {SVGGraphicsElement} */ (/** @type {unknown} */ (title.parentNode));
    if (/** @type {unknown} */ (mark) === svg) return [];
    mark.dataset.tip = title.textContent ?? '';
    title.remove();
    return [mark];
  });
  /** @type {SVGGraphicsElement | null} */
  let current = null;
  const visible = () => marks.filter((mark) => !mark.closest('.off'));

  const hide = () => {
    current?.classList.remove('marked');
    current = null;
    tip.textContent = '';
    markRun('');
  };
  /** @param {SVGGraphicsElement} mark */
  const show = (mark) => {
    if (mark === current) return;
    hide();
    current = mark;
    mark.classList.add('marked');
    markRun(mark.dataset.run ?? '');
    tip.textContent = mark.dataset.tip ?? '';
    const [outer, box] = [frame.getBoundingClientRect(), mark.getBoundingClientRect()];
    const left = box.left + box.width / 2 - outer.left + frame.scrollLeft - tip.offsetWidth / 2;
    const right = frame.scrollLeft + outer.width - tip.offsetWidth;
    tip.style.left = `${Math.max(frame.scrollLeft, Math.min(right, left))}px`;
    const above = box.top - outer.top - tip.offsetHeight - 8;
    tip.style.top = `${above > 0 ? above : box.bottom - outer.top + 8}px`;
  };

  /** The mark whose box is nearest to a point; distances to the middle break ties of marks that overlap. @param {MouseEvent} event */
  const nearest = ({ clientX, clientY }) => {
    let [best, least] = [/** @type {SVGGraphicsElement | null} */ (null), NEAR];
    for (const mark of visible()) {
      const { left, right, top, bottom } = mark.getBoundingClientRect();
      const outside = Math.hypot(
        Math.max(left - clientX, 0, clientX - right),
        Math.max(top - clientY, 0, clientY - bottom),
      );
      const middle = Math.hypot((left + right) / 2 - clientX, (top + bottom) / 2 - clientY);
      const distance = outside + middle / 1000;
      if (distance < least) [best, least] = [mark, distance];
    }
    return best;
  };
  /** @param {MouseEvent} event */
  const point = (event) => {
    const mark = nearest(event);
    if (mark === null) hide();
    else show(mark);
  };
  svg.addEventListener('pointermove', point);
  svg.addEventListener('pointerdown', point);
  svg.addEventListener('pointerleave', (event) => {
    if (event.pointerType === 'mouse') hide();
  });
  svg.addEventListener('dblclick', () => goToRun(current?.dataset.run ?? ''));

  for (const key of /** @type {NodeListOf<SVGGElement>} */ (svg.querySelectorAll('.key'))) {
    const { series = '' } = key.dataset;
    const parts = svg.querySelectorAll(`.${CSS.escape(series)}`);
    if (parts.length === 0) continue;
    key.closest('.legend')?.removeAttribute('aria-hidden');
    key.setAttribute('role', 'switch');
    key.setAttribute('tabindex', '0');
    key.setAttribute('aria-checked', 'true');
    key.setAttribute('aria-label', key.textContent ?? '');
    const toggle = () => {
      const off = key.classList.toggle('off-key');
      key.setAttribute('aria-checked', String(!off));
      for (const part of parts) part.classList.toggle('off', off);
      hide();
    };
    key.addEventListener('click', toggle);
    key.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      event.stopPropagation();
      toggle();
    });
  }

  if (marks.length > 0) {
    frame.tabIndex = 0;
    frame.setAttribute('role', 'group');
    frame.setAttribute(
      'aria-label',
      `${name}: arrow keys read its ${marks.length} marks, Enter goes to the run`,
    );
    frame.addEventListener('blur', hide);
    frame.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === 'Escape') hide();
      if (event.key === 'Enter' && current?.dataset.run !== undefined) goToRun(current.dataset.run);
      if (step === undefined) return;
      event.preventDefault();
      const shown = visible();
      const at = current === null ? (step > 0 ? -1 : 0) : shown.indexOf(current);
      const next = shown[(at + step + shown.length) % shown.length];
      if (next !== undefined) show(next);
    });
  }

  const tools = element(
    `<p class="tools"><button>CSV</button><button>SVG</button><button>PNG</button><a href="#${figure.id}">link</a></p>`,
  );
  const [csv, asSvg, png] = /** @type {NodeListOf<HTMLButtonElement>} */ (tools.querySelectorAll('button'));
  const table = figure.querySelector('table');
  csv?.addEventListener('click', () => {
    if (table !== null) save(`${figure.id}.csv`, new Blob([csvOf(table)], { type: 'text/csv' }));
  });
  asSvg?.addEventListener('click', () =>
    save(`${figure.id}.svg`, new Blob([standaloneSvg(svg)], { type: 'image/svg+xml' })),
  );
  png?.addEventListener('click', async () => {
    const image = new Image();
    const { width, height } = svg.viewBox.baseVal;
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standaloneSvg(svg))}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && save(`${figure.id}.png`, blob));
  });
  frame.after(tools);
};

for (const frame of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('.frame')))
  enhanceFigure(frame);
