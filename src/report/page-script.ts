/** The page's script: tooltips by hovering, tapping and the arrow keys. Without the script the marks keep their own titles. */

/**
 * Shows the `<title>` of the current mark in one tooltip per figure, which is also a live region for screen readers. The
 * figure takes the focus once; the arrow keys move from mark to mark.
 */
export const PAGE_SCRIPT = `
for (const frame of document.querySelectorAll('.frame')) {
  const svg = frame.querySelector('svg');
  const tip = frame.appendChild(document.createElement('div'));
  tip.className = 'tip';
  tip.setAttribute('role', 'status');
  const marks = [...svg.querySelectorAll('title')].filter((title) => title.parentNode !== svg).map((title) => {
    const mark = title.parentNode;
    mark.dataset.tip = title.textContent;
    title.remove();
    return mark;
  });
  if (marks.length === 0) continue;
  let current = null;
  const hide = () => {
    current?.classList.remove('marked');
    current = null;
    tip.textContent = '';
  };
  const show = (mark) => {
    if (mark === current) return;
    hide();
    current = mark;
    mark.classList.add('marked');
    tip.textContent = mark.dataset.tip;
    const [outer, box] = [frame.getBoundingClientRect(), mark.getBoundingClientRect()];
    const left = box.left + box.width / 2 - outer.left + frame.scrollLeft - tip.offsetWidth / 2;
    const right = frame.scrollLeft + outer.width - tip.offsetWidth;
    tip.style.left = Math.max(frame.scrollLeft, Math.min(right, left)) + 'px';
    const above = box.top - outer.top - tip.offsetHeight - 8;
    tip.style.top = (above > 0 ? above : box.bottom - outer.top + 8) + 'px';
  };
  const pointed = (event) => event.target.closest('[data-tip]');
  svg.addEventListener('pointerover', (event) => { const mark = pointed(event); if (mark) show(mark); else hide(); });
  svg.addEventListener('pointerdown', (event) => { const mark = pointed(event); if (mark) show(mark); else hide(); });
  svg.addEventListener('pointerleave', (event) => { if (event.pointerType === 'mouse') hide(); });
  frame.tabIndex = 0;
  frame.setAttribute('role', 'group');
  frame.setAttribute('aria-label', svg.querySelector('title').textContent + ': arrow keys read its ' + marks.length + ' marks');
  frame.addEventListener('blur', hide);
  frame.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === 'Escape') hide();
    if (step === undefined) return;
    event.preventDefault();
    const at = current === null ? (step > 0 ? -1 : 0) : marks.indexOf(current);
    show(marks[(at + step + marks.length) % marks.length]);
  });
}
`;
