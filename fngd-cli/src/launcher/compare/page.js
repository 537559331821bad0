'use strict';
// Draws loss and accuracy from the embedded numbers: methods can be hidden, axes made logarithmic, values read.
const data = JSON.parse(document.getElementById('data').textContent);
const W = 600, H = 360, L = 66, R = 18, T = 14, B = 48;
const METRICS = { val_acc: 'validation accuracy, %', train_acc: 'training accuracy, %', train_loss: 'training loss', val_loss: 'validation loss' };
const hidden = new Set();
const state = { log: true, seeds: false, upper: 'train_loss', lower: 'val_acc' };

const value = (point, metric) => point[metric] === null ? NaN : metric.endsWith('_acc') ? 100 * point[metric] : point[metric];
const median = values => { const s = values.filter(Number.isFinite).sort((a, b) => a - b), m = s.length >> 1; return s.length ? (s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2) : NaN; };
const shape = text => text.replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

function medians(method, x, metric) {
  const longest = Math.max(0, ...method.runs.map(run => run.epochs.length));
  return Array.from({ length: longest }, (_, position) => {
    const points = method.runs.map(run => run.epochs[position]).filter(Boolean);
    const ys = points.map(point => value(point, metric)).filter(Number.isFinite);
    return { epoch: points[0].epoch, x: median(points.map(point => point[x])), y: median(ys), low: Math.min(...ys), high: Math.max(...ys), n: ys.length };
  }).filter(point => Number.isFinite(point.x) && Number.isFinite(point.y));
}

function ruler(values, log, from, to, zero) {
  const usable = values.filter(v => Number.isFinite(v) && (!log || v > 0));
  let low = Math.min(...usable), high = Math.max(...usable);
  if (!usable.length) [low, high] = [0.1, 1];
  if (log) [low, high] = [low / 1.05, high * 1.05];
  else { const room = Math.max((high - low) * 0.04, 1e-9); low = zero || (low >= 0 && low < high * 0.35) ? 0 : low - room; high += room; }
  const f = log ? Math.log : v => v;
  const place = v => from + (f(v) - f(low)) / (f(high) - f(low)) * (to - from);
  const ticks = [];
  if (log) {
    const few = Math.log10(high / low) > 4;
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) for (const k of few ? [1] : [1, 2, 5]) { const t = k * 10 ** p; if (t >= low && t <= high) ticks.push(t); }
  } else {
    const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map(k => k * power).find(s => s >= rough);
    for (let t = Math.ceil(low / step); t * step <= high; t++) ticks.push(t * step);
  }
  return { place, ticks, holds: v => Number.isFinite(v) && v >= low && v <= high };
}

function draw(panel) {
  const x = panel.dataset.x, metric = state[panel.dataset.row], log = state.log && metric.endsWith('_loss');
  const shown = data.methods.map((method, index) => ({ method, index, points: medians(method, x, metric) })).filter(s => !hidden.has(s.index));
  const target = metric === 'val_acc' && data.target !== null ? 100 * data.target : NaN;
  const xs = ruler(shown.flatMap(s => s.points.map(p => p.x)), false, L, W - R, true);
  const ys = ruler(shown.flatMap(s => s.points.flatMap(p => [p.low, p.high])).concat(target), log, H - B, T, false);
  let out = '';
  const text = (tx, ty, words, anchor, more) => { out += `<text x="${tx}" y="${ty}" text-anchor="${anchor}" font-size="12" fill="#6b7280" ${more || ''}>${shape(words)}</text>`; };
  for (const t of xs.ticks) { const p = xs.place(t); out += `<path d="M${p} ${T}V${H - B}" stroke="#e6e8ec"/>`; text(p, H - B + 17, String(+t.toPrecision(6)), 'middle'); }
  for (const t of ys.ticks) { const p = ys.place(t); out += `<path d="M${L} ${p}H${W - R}" stroke="#e6e8ec"/>`; text(L - 8, p + 4, String(+t.toPrecision(6)), 'end'); }
  text((L + W - R) / 2, H - 8, x === 'epoch' ? 'epoch' : 'training seconds (median of the seeds)', 'middle');
  text(0, 0, METRICS[metric], 'middle', `transform="translate(16 ${(T + H - B) / 2}) rotate(-90)"`);
  if (ys.holds(target)) { out += `<path d="M${L} ${ys.place(target)}H${W - R}" stroke="#262b33" stroke-dasharray="2 3"/>`; text(L + 6, ys.place(target) - 5, 'target', 'start'); }
  const line = points => points.map((p, i) => `${i ? 'L' : 'M'}${xs.place(p[0]).toFixed(1)} ${ys.place(p[1]).toFixed(1)}`).join('');
  for (const { method, points } of shown) {
    const usable = points.filter(p => ys.holds(p.low) && ys.holds(p.high));
    const stroke = `fill="none" stroke="${method.color}" stroke-dasharray="${method.dash}"`;
    if (!state.seeds && usable.length > 1) out += `<path d="${line(usable.map(p => [p.x, p.high]).concat(usable.map(p => [p.x, p.low]).reverse()))}Z" fill="${method.color}" fill-opacity="0.14"/>`;
    if (state.seeds) for (const run of method.runs) {
      const of = run.epochs.map(p => [p[x], value(p, metric)]).filter(p => xs.holds(p[0]) && ys.holds(p[1]));
      out += `<path d="${line(of)}" ${stroke} stroke-width="1" stroke-opacity="0.6"/>`;
    }
    out += `<path d="${line(usable.map(p => [p.x, p.y]))}" ${stroke} stroke-width="2.2"/>`;
    if (usable.length <= 12) for (const p of usable) out += `<circle cx="${xs.place(p.x)}" cy="${ys.place(p.y)}" r="2.6" fill="${method.color}"/>`;
  }
  panel.innerHTML = `<svg width="${W}" height="${H}" viewBox="0 0 ${W} ${H}">${out}<path class="cursor" stroke="#9aa0aa"/></svg>`;
  panel.onmousemove = event => {
    const box = panel.getBoundingClientRect(), at = event.clientX - box.left;
    const nearest = s => s.points.reduce((best, p) => !best || Math.abs(xs.place(p.x) - at) < Math.abs(xs.place(best.x) - at) ? p : best, null);
    const rows = shown.map(s => ({ s, p: nearest(s) })).filter(row => row.p);
    if (!rows.length) return;
    panel.querySelector('.cursor').setAttribute('d', `M${at} ${T}V${H - B}`);
    const digits = v => metric.endsWith('_acc') ? v.toFixed(1) : v.toPrecision(3);
    tip.innerHTML = rows.map(({ s, p }) => `<b style="color:${s.method.color}">${shape(s.method.label)}</b> epoch ${p.epoch}` +
      (x === 'seconds' ? `, ${p.x.toFixed(1)} s` : '') + `: ${digits(p.y)}` + (p.n > 1 ? ` [${digits(p.low)}, ${digits(p.high)}]` : '')).join('<br>');
    tip.style.display = 'block';
    tip.style.left = Math.min(event.clientX + 16, innerWidth - tip.offsetWidth - 8) + 'px';
    tip.style.top = event.clientY + 16 + 'px';
  };
  panel.onmouseleave = () => { tip.style.display = 'none'; panel.querySelector('.cursor').removeAttribute('d'); };
}

const tip = document.getElementById('tip');
const redraw = () => document.querySelectorAll('.panel').forEach(draw);
document.getElementById('legend').innerHTML = data.methods.map((method, index) =>
  `<label><input type="checkbox" checked data-method="${index}"> <svg width="30" height="10"><path d="M0 5H30" stroke="${method.color}" stroke-width="2.5" stroke-dasharray="${method.dash}"/></svg>${shape(method.label)}</label>`).join('');
document.getElementById('legend').onchange = event => {
  const index = Number(event.target.dataset.method);
  if (event.target.checked) hidden.delete(index); else hidden.add(index);
  redraw();
};
document.getElementById('log').onchange = event => { state.log = event.target.checked; redraw(); };
document.getElementById('seeds').onchange = event => { state.seeds = event.target.checked; redraw(); };
for (const row of ['upper', 'lower']) {
  const select = document.getElementById(row);
  select.innerHTML = Object.entries(METRICS).map(([key, words]) => `<option value="${key}"${state[row] === key ? ' selected' : ''}>${words}</option>`).join('');
  select.onchange = () => { state[row] = select.value; redraw(); };
}
document.getElementById('static').hidden = true;
document.getElementById('interactive').hidden = false;
redraw();
