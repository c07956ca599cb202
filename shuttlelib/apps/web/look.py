"""How the page looks and the little that runs in the browser; no font, script or picture comes from elsewhere."""

import gradio as gr

TITLE = "Shuttle tracker"

# What js_on_load of the parts below sends to Python: `seek` {frame}, `step` {by}, `pick` {frame, x, y}.
SEEK_JS = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-frame]');
  if (row) return trigger('seek', {frame: +row.dataset.frame});
  const curves = event.target.closest('.curves');
  if (!curves) return;
  const box = curves.getBoundingClientRect();
  const n = +curves.dataset.n, share = (event.clientX - box.left) / box.width;
  trigger('seek', {frame: Math.max(0, Math.min(n - 1, Math.floor(share * n)))});
});
"""
VIEWER_JS = """
element.addEventListener('click', (event) => {
  const step = event.target.closest('[data-by]');
  if (step) return trigger('step', {by: +step.dataset.by});
  const stage = event.target.closest('.stage');
  if (!stage) return;
  const box = stage.getBoundingClientRect(), shows = stage.dataset;
  trigger('pick', {
    frame: +shows.frame,
    x: +shows.x + (event.clientX - box.left) / box.width * +shows.w,
    y: +shows.y + (event.clientY - box.top) / box.height * +shows.h,
  });
});
watch('value', () => {
  const stage = element.querySelector('.stage');
  if (!stage) return;
  document.documentElement.style.setProperty('--at', stage.dataset.at);
  const video = document.querySelector('#overlay video');
  if (video && video.paused && video.readyState) video.currentTime = +stage.dataset.s;
});
"""

CSS = """
:root { --at: 0; --seen: #0f766e; --sure: #b45309; --lost: #94a3b833; --doubt: #f59e0b2e; }
.dark { --seen: #2dd4bf; --sure: #fbbf24; --lost: #94a3b82e; --doubt: #f59e0b33; }
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; padding: 0 16px 48px !important; }
footer { display: none !important; }
.html-container { padding: 0 !important; }
.block:has(> .html-container) { border: 0 !important; background: none !important; box-shadow: none !important; }
#head h1 { font-size: 1.7rem; font-weight: 650; margin: 20px 0 2px; letter-spacing: -0.01em; }
#head p, .said { color: var(--body-text-color-subdued); margin: 4px 0; }
.prose h2.part { font-size: 1.05rem; font-weight: 600; margin: 8px 0 8px; }
.notice { border-radius: 8px; padding: 10px 14px; border-left: 4px solid var(--seen);
  background: var(--background-fill-secondary); }
.notice.warning { border-color: #d97706; }
.notice.error { border-color: #dc2626; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 10px; }
.facts div { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 10px 12px;
  background: var(--block-background-fill); }
.facts b { display: block; font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
.facts span { color: var(--body-text-color-subdued); font-size: 0.82rem; }
.progress { height: 10px; border-radius: 5px; overflow: hidden; background: var(--border-color-primary); }
.progress i { display: block; height: 100%; border-radius: 5px; background: var(--seen); transition: width 0.3s; }
.progress.unknown i { width: 30% !important; animation: wander 1.6s ease-in-out infinite alternate; }
@keyframes wander { to { margin-left: 70%; } }
.stage, .court { position: relative; border-radius: 8px; overflow: hidden; background: #000; line-height: 0; }
.stage { cursor: crosshair; touch-action: manipulation; }
.stage img, .court img { width: 100%; height: auto; user-select: none; }
.stage svg, .court svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.court img { filter: grayscale(0.7) brightness(0.4); }
.trail { stroke: #facc15; stroke-linecap: round; }
.ring { fill: none; stroke: #4ade80; }
.cross { fill: none; stroke: #f472b6; stroke-linecap: round; }
.path { fill: none; stroke: #5eead4; stroke-linejoin: round; stroke-linecap: round; opacity: 0.85; }
.path.many { opacity: 0.25; }
.caption { display: flex; align-items: center; justify-content: space-between; gap: 8px; margin-top: 6px; }
.caption span { font-variant-numeric: tabular-nums; text-align: center; font-size: 0.92rem; }
.caption button { font-size: 1.3rem; line-height: 1; padding: 6px 16px; border-radius: 8px; cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
#overlay video { width: 100%; border-radius: 8px; background: #000; display: block; }
.curves { position: relative; cursor: pointer; }
.curves figure { position: relative; margin: 0 0 6px; }
.curves figcaption { position: absolute; left: 6px; top: 3px; padding: 0 4px; border-radius: 4px;
  background: var(--background-fill-secondary); }
.curves figure b { position: absolute; right: 6px; font-weight: 400; }
.curves figure b:nth-of-type(1) { top: 3px; }
.curves figure b:nth-of-type(2) { bottom: 3px; }
.curves figcaption, .curves b, .ticks { font-size: 0.75rem; color: var(--body-text-color-subdued);
  font-variant-numeric: tabular-nums; }
.curves svg { display: block; width: 100%; height: 104px; border-radius: 6px;
  background: var(--background-fill-secondary); }
.curves polyline, .curves path { fill: none; stroke: var(--seen); stroke-width: 1.6px; vector-effect: non-scaling-stroke;
  stroke-linecap: round; stroke-linejoin: round; }
.curves .sure { stroke: var(--sure); }
.curves .least { stroke: var(--body-text-color-subdued); stroke-dasharray: 4 4; }
.gap { fill: var(--lost); }
.gap.doubted { fill: var(--doubt); }
.curves > i { position: absolute; top: 0; bottom: 0; left: calc(var(--at) * 100%); width: 0; pointer-events: none;
  border-left: 2px solid var(--body-text-color); opacity: 0.6; }
.ticks { display: flex; justify-content: space-between; }
.table { max-height: 300px; overflow: auto; }
.prose .table table, .prose .table tr { border: 0 !important; }
.prose .table table { width: 100%; margin: 0; border-collapse: collapse; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
.prose .table th, .prose .table td { padding: 5px 8px; text-align: left; border: 0;
  border-bottom: 1px solid var(--border-color-primary); }
.prose .table th { font-weight: 500; color: var(--body-text-color-subdued); position: sticky; top: 0;
  background: var(--body-background-fill); }
.table tr[data-frame] { cursor: pointer; }
.table tr[data-frame]:hover { background: var(--background-fill-secondary); }
.prose .table button { padding: 0; background: none; color: var(--seen); font: inherit; text-decoration: underline; }
button:focus-visible, .stage:focus-visible { outline: 2px solid var(--seen); outline-offset: 2px; }
@media (max-width: 640px) {
  .gradio-container { padding: 0 10px 32px !important; }
  .facts { grid-template-columns: repeat(auto-fit, minmax(96px, 1fr)); gap: 8px; }
  .facts b { font-size: 1.05rem; }
  .curves svg { height: 84px; }
}
"""


def theme() -> gr.themes.Base:
    """Calm greys with one green; only fonts that the machine has."""
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
    )
