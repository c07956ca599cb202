// Curves and tables: a click asks for the frame there.
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-frame]');
  if (row) return trigger('seek', {frame: +row.dataset.frame});
  const curves = event.target.closest('.curves');
  if (!curves) return;
  const box = curves.getBoundingClientRect();
  const n = +curves.dataset.n, share = (event.clientX - box.left) / box.width;
  trigger('seek', {frame: Math.max(0, Math.min(n - 1, Math.floor(share * n)))});
});
