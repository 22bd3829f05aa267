#include "study/page_text.h"

namespace nfscale {

const char* const kPageStyle = R"(
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--page:#fff;--box:#f6f8fa;--line:#d1d9e0;--accent:#0072B2;--open:#9a5b00}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa4ae;--page:#14171a;--box:#1d2125;--line:#3a4148;--accent:#56B4E9;--open:#E69F00}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:1.2rem 1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:.4rem 0 1rem}h2{font-size:1.15rem;margin:2rem 0 .4rem}
a{color:var(--accent)}p,li,h1{overflow-wrap:anywhere}
.kind{color:var(--soft);font-size:.9rem}
.law{font-size:1.12rem;background:var(--box);border-left:4px solid var(--accent);padding:.7rem .9rem;margin:1rem 0}
.law p,.verdicts p{margin:0}
.verdicts{list-style:none;padding:0}.verdicts li{margin:.7rem 0}
.name{font-weight:600}
.state{font-size:.8rem;border:1px solid currentColor;border-radius:.6rem;padding:0 .45rem;margin:0 .3rem;white-space:nowrap;color:var(--open)}
.state.decided{color:var(--accent)}
.cells{font-size:.82rem;color:var(--soft)}.cells summary{cursor:pointer}.cells a{margin-right:.5rem;white-space:nowrap}
.limits{padding-left:1.2rem}.limits li{margin:.25rem 0}
.figure{width:100%;margin:.6rem 0;overflow-x:auto}
.figure svg{display:block;max-width:100%;height:auto}
.reading{margin:.2rem 0}.caption,.waits{color:var(--soft);font-size:.9rem;margin:.2rem 0}
details.fold{border-top:1px solid var(--line);padding:.5rem 0}.fold>summary{cursor:pointer;font-weight:600}
.numbers>summary{cursor:pointer;color:var(--soft);font-size:.9rem}
.scroll{overflow:auto;max-height:34rem;margin:.6rem 0}
table{border-collapse:collapse;font-size:.85rem;white-space:nowrap}
th,td{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:left}
th{cursor:pointer;position:sticky;top:0;background:var(--page)}
td.n{text-align:right;font-variant-numeric:tabular-nums}
tr:target{background:var(--box);outline:2px solid var(--accent)}
pre{white-space:pre-wrap;font-size:.75rem;color:var(--soft)}
.vega-embed{width:100%}.figure.vega-embed.has-actions{padding-right:0}.vega-embed details summary{z-index:1}
@media print{
  :root{--ink:#000;--soft:#444;--page:#fff;--box:#f4f4f4;--line:#bbb}
  details.fold::details-content{content-visibility:visible;display:block;height:auto}
  .vega-embed details,.vega-embed summary{display:none}
  main{max-width:none;padding:0}.scroll{overflow:visible;max-height:none}
  section,.law,.verdicts li{break-inside:avoid;page-break-inside:avoid}
  table{white-space:normal;font-size:.65rem}th,td{padding:.1rem .3rem}tr{break-inside:avoid;page-break-inside:avoid}
}
)";

// Text and axes take the colours of the page, so nothing is drawn anew where it turns dark. A
// figure that is folded away has no width of its own: all are drawn at the width of the page, the
// folded ones when there is time. A specification of several panels says how they stand in a narrow
// page. Printing opens the folds, but not the long lists: numbers of figures and cells of verdicts.
const char* const kPageScript = R"(
const pageWidth = () => document.querySelector('.measure').clientWidth;
const config = {background: 'transparent', font: 'system-ui, sans-serif',
  view: {stroke: 'currentColor', strokeOpacity: 0.25},
  axis: {labelColor: 'currentColor', titleColor: 'currentColor', gridColor: 'currentColor', gridOpacity: 0.13,
    domainColor: 'currentColor', domainOpacity: 0.5, tickColor: 'currentColor', tickOpacity: 0.5,
    labelFontSize: 12, titleFontSize: 13, titleFontWeight: 500},
  header: {labelColor: 'currentColor', titleColor: 'currentColor', titleFontWeight: 500},
  legend: {labelColor: 'currentColor', titleColor: 'currentColor', labelFontSize: 12, titleFontWeight: 500},
  title: {color: 'currentColor'}};
function fitted(name, width) {
  const spec = structuredClone(figures[name]), panels = spec.usermeta;
  const values = {ink: 'currentColor', page: 'Canvas', page_width: width};
  for (const p of spec.params) p.value = values[p.name] ?? p.value;
  if (!panels) {
    spec.width = width;
    spec.autosize = {type: 'fit-x', contains: 'padding'};
    return spec;
  }
  if (width < panels.below) Object.assign(spec, panels.narrow);
  const columns = Math.min(spec.columns ?? panels.columns, spec.concat ? spec.concat.length : 99);
  const each = Math.max(70, Math.min(520, Math.floor(width / columns) - panels.side));
  for (const part of spec.concat ?? [spec.spec]) part.width = each;
  return spec;
}
function draw(name) {
  const place = document.getElementById('draw-' + name), width = pageWidth();
  if (!window.vegaEmbed || place.dataset.width === String(width)) return;
  place.dataset.width = width;
  return window.vegaEmbed(place, fitted(name, width), {renderer: 'svg', config, downloadFileName: name,
      actions: {export: true, source: true, compiled: false, editor: false}})
    .catch(e => { place.textContent = 'This figure could not be drawn: ' + e.message; console.error(e); });
}
function drawAll() {
  const folded = name => document.getElementById('draw-' + name).closest('details.fold:not([open])');
  const names = Object.keys(figures);
  names.filter(n => !folded(n)).forEach(draw);
  const later = names.filter(folded), idle = window.requestIdleCallback ?? (f => setTimeout(f, 50));
  const next = () => { if (later.length) { draw(later.shift()); idle(next); } };
  idle(next);
}
drawAll();
let waiting;
addEventListener('resize', () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 200); });
document.querySelectorAll('details.fold').forEach(d => d.addEventListener('toggle', () => {
  const place = d.open && d.querySelector('.figure');
  if (place) draw(place.id.slice(5));
}));
const open = () => { for (let d = document.getElementById(decodeURIComponent(location.hash.slice(1))); d; d = d.parentElement) if (d.tagName === 'DETAILS') d.open = true; };
addEventListener('hashchange', () => { open(); document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView({block: 'center'}); });
open();
addEventListener('beforeprint', () => document.querySelectorAll('details.fold').forEach(d => d.open = true));
document.querySelectorAll('th').forEach(th => th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], i = th.cellIndex, up = th.dataset.up !== '1';
  const value = tr => { const t = tr.cells[i].textContent; return t !== '' && !isNaN(t) ? Number(t) : t; };
  th.dataset.up = up ? '1' : '0';
  [...body.rows].sort((a, b) => { const x = value(a), y = value(b), d = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === 'number' ? -1 : 1; return up ? d : -d; })
    .forEach(r => body.append(r));
}));
)";

}  // namespace nfscale
