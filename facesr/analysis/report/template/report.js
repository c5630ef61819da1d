(() => {
  'use strict';

  const SLOP = 4;  /* pixels that a finger may tremble */

  /* Two native sliders a picture, `left` between LQ and HQ and `right` between HQ and GT. They bring the keyboard; the
     pointer (mouse, touch, pen) is followed on the whole picture and moves the nearer one. */
  const compare = (figure) => {
    const frame = figure.querySelector('.frame');
    const left = frame.querySelector('input.left');
    const right = frame.querySelector('input.right');
    const views = [...figure.querySelectorAll('.views button')];
    let held = null;  /* the slider that the pointer moves */
    let start = null;  /* where a finger came down, until it is known whether it drags or scrolls the page */

    const show = () => {
      const [a, b] = [Number(left.value), Number(right.value)];
      frame.style.setProperty('--left', `${a}%`);
      frame.style.setProperty('--right', `${b}%`);
      left.setAttribute('aria-valuetext', `LQ covers ${Math.round(a)} %`);
      right.setAttribute('aria-valuetext', `GT covers ${Math.round(100 - b)} %`);
      for (const [kind, share] of [['lq', a], ['hq', b - a], ['gt', 100 - b]]) {
        frame.querySelector(`.${kind} .label`).hidden = share < 12;
      }
      for (const view of views) {
        view.setAttribute('aria-pressed', String(Number(view.dataset.left) === a && Number(view.dataset.right) === b));
      }
    };
    /* Neither passes the other: it takes the other along. */
    const move = (edge, value) => {
      edge.value = value;
      if (edge === left && Number(right.value) < Number(left.value)) right.value = left.value;
      if (edge === right && Number(left.value) > Number(right.value)) left.value = right.value;
      show();
    };
    const positionOf = (event) => {
      const box = frame.getBoundingClientRect();
      return Math.min(100, Math.max(0, (event.clientX - box.left) / box.width * 100));
    };
    const nearer = (x) => {
      const [a, b] = [Number(left.value), Number(right.value)];
      return Math.abs(x - a) < Math.abs(x - b) || (Math.abs(x - a) === Math.abs(x - b) && x < a) ? left : right;
    };

    for (const edge of [left, right]) edge.addEventListener('input', () => move(edge, edge.value));
    frame.addEventListener('pointerdown', (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      event.preventDefault();
      held = nearer(positionOf(event));
      frame.setPointerCapture(event.pointerId);
      held.focus({ preventScroll: true });
      start = event.pointerType === 'touch' ? event : null;
      if (!start) move(held, positionOf(event));
    });
    frame.addEventListener('pointermove', (event) => {
      if (!held || !event.isPrimary) return;
      if (start) {
        const [across, down] = [Math.abs(event.clientX - start.clientX), Math.abs(event.clientY - start.clientY)];
        if (Math.max(across, down) < SLOP) return;
        if (down > across) held = null;
        start = null;
      }
      if (held) move(held, positionOf(event));
    });
    frame.addEventListener('pointerup', (event) => {
      if (held && event.isPrimary) move(held, positionOf(event));
    });
    for (const type of ['pointerup', 'pointercancel', 'lostpointercapture']) {
      frame.addEventListener(type, () => { held = null; });
    }
    for (const view of views) {
      view.addEventListener('click', () => {
        left.value = view.dataset.left;
        right.value = view.dataset.right;
        show();
      });
    }
    show();
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector('button').addEventListener('click', () => {
        /* Names begin with the first, figures with the highest. */
        const before = heading.getAttribute('aria-sort');
        const ascending = before ? before !== 'ascending' : column === 0;
        const key = (row) => row.cells[column].dataset.value;
        const order = column === 0
          ? (a, b) => (key(a) < key(b) ? -1 : Number(key(a) > key(b)))
          : (a, b) => Number(key(a)) - Number(key(b));
        const rows = [...body.rows].sort((a, b) => (ascending ? order(a, b) : order(b, a)));
        headings.forEach((other) => other.removeAttribute('aria-sort'));
        heading.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
        body.append(...rows);
      });
    });
  };

  document.documentElement.classList.add('live');
  document.querySelectorAll('.compare').forEach(compare);
  document.querySelectorAll('table.sortable').forEach(sortable);
})();
