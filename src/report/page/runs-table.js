// @ts-check
/** The table of runs on the page: sort, filters, columns, selection, and the learning curves of the selected runs. */

/** @type {Record<string, { end: number, flops: number, y: number[] }>} */
const curvesOfRuns = JSON.parse(document.getElementById('curves-data')?.textContent ?? '{}');

/** The state of the table that the address keeps: `#runs:text=MoD&sort=4&run=a&run=b`. */
const PREFIX = '#runs:';

/** @param {HTMLTableElement} table */
const enhanceRuns = (table) => {
  const body = /** @type {HTMLTableSectionElement} */ (table.tBodies[0]);
  const rows = [...body.rows];
  const headRow = /** @type {HTMLTableRowElement} */ (table.querySelector('thead tr'));
  const heads = [...headRow.cells];
  /** @type {Set<string>} */
  const selected = new Set();
  /** The column of the order, from 1, negative for descending; 0: the order of the plan. */
  let sort = 0;
  /** @param {HTMLTableRowElement} row @param {number} column */
  const text = (row, column) => row.cells[column]?.textContent ?? '';

  const controls = element(
    '<div class="controls"><label>Filter <input type="search" placeholder="MoD 12.5%"></label><span role="status"></span><button type="button">CSV</button><button type="button">Clear selection</button><details><summary>Columns</summary></details></div>',
  );
  const search = /** @type {HTMLInputElement} */ (controls.querySelector('input'));
  const count = /** @type {HTMLElement} */ (controls.querySelector('[role=status]'));
  const [csv, clear] = controls.querySelectorAll('button');
  const columns = /** @type {HTMLElement} */ (controls.querySelector('details'));
  const filters = heads.map((head, i) => {
    const values = new Set(rows.map((row) => text(row, i)));
    if (i === 0 || values.size > 12) return null;
    const select = document.createElement('select');
    select.setAttribute('aria-label', `Only rows with this ${head.textContent}`);
    select.append(
      new Option('all', ''),
      ...[...values].map((value) => new Option(value === '' ? 'none' : value, `=${value}`)),
    );
    return select;
  });

  const remember = () => {
    const state = new URLSearchParams();
    if (search.value !== '') state.set('text', search.value);
    if (sort !== 0) state.set('sort', String(sort));
    filters.forEach((select, i) => {
      if (select !== null && select.value !== '') state.set(`column${i}`, select.value);
    });
    for (const run of selected) state.append('run', run);
    history.replaceState(null, '', state.size === 0 ? '#runs' : `${PREFIX}${state}`);
  };

  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const content = `${row.textContent} ${row.dataset.run}`.toLowerCase();
      const matches =
        words.every((word) => content.includes(word)) &&
        filters.every(
          (select, i) => select === null || select.value === '' || select.value === `=${text(row, i)}`,
        );
      row.hidden = !matches;
      if (matches) shown += 1;
    }
    count.textContent = `${shown} of ${rows.length} runs, ${selected.size} selected`;
  };

  const order = () => {
    const column = Math.abs(sort) - 1;
    const sorted = [...rows];
    if (sort !== 0)
      sorted.sort((a, b) => {
        const [x, y] = [text(a, column), text(b, column)];
        if (x === '' || y === '') return Number(x === '') - Number(y === ''); // empty cells are last in both orders
        const numbers = Number(x) - Number(y);
        return (
          Math.sign(sort) * (Number.isNaN(numbers) ? x.localeCompare(y, 'en', { numeric: true }) : numbers)
        );
      });
    body.append(...sorted);
    heads.forEach((head, i) => {
      head.setAttribute(
        'aria-sort',
        i !== column || sort === 0 ? 'none' : sort > 0 ? 'ascending' : 'descending',
      );
    });
  };

  /** @param {HTMLTableRowElement} row @param {boolean} chosen */
  const choose = (row, chosen) => {
    const run = row.dataset.run ?? '';
    if (chosen) selected.add(run);
    else selected.delete(run);
    row.classList.toggle('chosen', chosen);
    const box = /** @type {HTMLInputElement | null} */ (row.querySelector('input'));
    if (box !== null) box.checked = chosen;
  };
  const drawCurves = () => {
    const place = /** @type {HTMLElement} */ (document.getElementById('curves'));
    place.innerHTML = curvesSvg(
      rows
        .filter((row) => selected.has(row.dataset.run ?? ''))
        .map((row) => [row.dataset.run ?? '', text(row, 0)]),
    );
  };
  const changed = () => {
    update();
    drawCurves();
    remember();
  };

  heads.forEach((head, i) => {
    const name = head.textContent ?? '';
    head.textContent = '';
    const button = element(`<button type="button"></button>`);
    button.textContent = name;
    button.addEventListener('click', () => {
      sort = sort === i + 1 ? -(i + 1) : sort === -(i + 1) ? 0 : i + 1;
      order();
      remember();
    });
    head.append(button);
    const select = filters[i];
    if (select != null) {
      select.addEventListener('change', changed);
      head.append(select);
    }
    if (i === 0) return;
    const label = element('<label><input type="checkbox"> </label>');
    label.append(name);
    const box = /** @type {HTMLInputElement} */ (label.querySelector('input'));
    box.checked = !head.classList.contains('x');
    box.addEventListener('change', () => {
      for (const row of [...rows, head.parentElement]) row?.children[i]?.classList.toggle('x', !box.checked);
    });
    columns.append(label);
  });
  for (const row of rows) {
    const box = element(`<input type="checkbox">`);
    box.setAttribute('aria-label', `Learning curve of ${text(row, 0)}`);
    box.addEventListener('change', () => {
      choose(row, /** @type {HTMLInputElement} */ (box).checked);
      changed();
    });
    row.cells[0]?.prepend(box, ' ');
    row.addEventListener('pointerenter', () => markRun(row.dataset.run ?? ''));
    row.addEventListener('pointerleave', () => markRun(''));
    row.addEventListener('focusin', () => markRun(row.dataset.run ?? ''));
  }
  search.addEventListener('input', changed);
  csv?.addEventListener('click', () =>
    save('runs.csv', new Blob([csvOf(visibleTable(table))], { type: 'text/csv' })),
  );
  clear?.addEventListener('click', () => {
    for (const row of rows) choose(row, false);
    changed();
  });
  document.getElementById('curves')?.before(controls);

  const restore = () => {
    const state = new URLSearchParams(
      location.hash.startsWith(PREFIX) ? location.hash.slice(PREFIX.length) : '',
    );
    search.value = state.get('text') ?? '';
    sort = Number(state.get('sort') ?? 0);
    filters.forEach((select, i) => {
      if (select !== null) select.value = state.get(`column${i}`) ?? '';
    });
    const runs = new Set(state.getAll('run'));
    // While a sweep runs, the curves of the runs in training are shown.
    for (const row of rows)
      choose(row, runs.has(row.dataset.run ?? '') || (runs.size === 0 && row.classList.contains('running')));
    order();
    update();
    drawCurves();
    if (location.hash.startsWith(PREFIX)) document.getElementById('runs')?.scrollIntoView();
  };
  restore();
  addEventListener('hashchange', () => {
    if (location.hash.startsWith(PREFIX)) restore();
  });
};

/** The rows and columns that are shown, as a table of text. @param {HTMLTableElement} table */
const visibleTable = (table) => {
  const copy = document.createElement('table');
  for (const row of table.rows) {
    if (row.hidden) continue;
    const to = copy.insertRow();
    for (const cell of row.cells) {
      if (!cell.classList.contains('x'))
        to.insertCell().textContent = (cell.querySelector('th > button') ?? cell).textContent?.trim() ?? '';
    }
  }
  return copy;
};

/** @param {string} text */
const escaped = (text) => {
  const place = document.createElement('i');
  place.textContent = text;
  return place.innerHTML.replaceAll('"', '&quot;');
};

/** The learning curves of some runs, as SVG and a legend. @param {[run: string, name: string][]} runs */
const curvesSvg = (runs) => {
  const curves = runs.flatMap(([run, name]) => {
    const curve = curvesOfRuns[run];
    return curve === undefined ? [] : [{ run, name: name.trim(), ...curve }];
  });
  if (curves.length === 0) return '';
  const [width, height, left, bottom] = [940, 320, 60, 40];
  // The first fifth of training would take up most of the height.
  const top = Math.max(...curves.map(({ y }) => y[Math.floor(y.length / 5)] ?? 0));
  const low = Math.min(...curves.flatMap(({ y }) => y));
  const most = Math.max(...curves.map(({ flops, end }) => flops * end));
  /** @param {number} flops */
  const x = (flops) => left + ((width - left - 20) * flops) / most;
  /** @param {number} loss */
  const y = (loss) => 12 + ((height - bottom - 12) * (top - loss)) / (top - low || 1);
  /** @param {number} i */
  const look = (i) =>
    `stroke="hsl(${(i * 137.5) % 360} 65% 45%)" stroke-width="1.75" stroke-dasharray="${['none', '7,3', '2,2'][i % 3]}"`;
  const lines = curves.map(({ run, end, flops, y: losses }, i) => {
    const points = losses.map(
      (loss, j) => `${x((flops * end * (j + 1)) / losses.length).toFixed(1)},${y(loss).toFixed(1)}`,
    );
    return `<polyline data-run="${escaped(run)}" points="${points.join(' ')}" fill="none" ${look(i)} clip-path="url(#clip-curves)"></polyline>`;
  });
  const key = curves.map(
    ({ run, name, y: losses }, i) =>
      `<li data-run="${escaped(run)}"><svg viewBox="0 0 36 10" aria-hidden="true"><path d="M0 5H36" ${look(i)}/></svg> ${escaped(name)}: ${losses.at(-1)}</li>`,
  );
  const ticks = [0, 1, 2, 3, 4].map((i) => low + ((top - low) * i) / 4);
  const grid = ticks.map(
    (loss) =>
      `<line x1="${left}" x2="${width - 20}" y1="${y(loss)}" y2="${y(loss)}" stroke="currentColor" stroke-opacity=".15"/><text x="${left - 6}" y="${y(loss) + 4}" text-anchor="end">${loss.toFixed(3)}</text>`,
  );
  const marks = [0, 0.5, 1].map(
    (share) =>
      `<text x="${x(share * most)}" y="${height - 18}" text-anchor="${share === 1 ? 'end' : 'middle'}">${share === 0 ? '0' : (share * most).toPrecision(3)}</text>`,
  );
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Training loss of the selected runs against training FLOPs" fill="currentColor" font-size="13"><clipPath id="clip-curves"><rect x="${left}" y="0" width="${width}" height="${height - bottom}"/></clipPath>${grid.join('')}${marks.join('')}<text x="${width - 20}" y="${height - 3}" text-anchor="end">training FLOPs; training loss of the selected runs, nats per token</text>${lines.join('')}</svg><ul>${key.join('')}</ul>`;
};

const allRuns = /** @type {HTMLTableElement | null} */ (document.getElementById('all-runs'));
if (allRuns !== null) enhanceRuns(allRuns);

const reload = Number(document.body.dataset.reload ?? 0);
if (reload > 0) {
  setInterval(() => {
    // A reload would take the text that is being typed.
    if (!(document.activeElement instanceof HTMLInputElement)) location.reload();
  }, 1000 * reload);
}
