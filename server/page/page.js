'use strict';
// The page at /: asks /rerank (TEI's dialect), shows order, scores and the stages of Server-Timing,
// and draws charts from the differences of two scrapes of /metrics.
const $ = id => document.getElementById(id);
const headers = () => {
  const h = {'Content-Type': 'application/json'};
  if ($('key').value) h.Authorization = 'Bearer ' + $('key').value;
  return h;
};
const body = () => {
  const texts = $('documents').value.split('\n').map(t => t.trim()).filter(Boolean);
  const ask = {query: $('query').value, texts};
  if ($('model').value) ask.model = $('model').value;
  return ask;
};
const quoted = text => "'" + text.replace(/'/g, "'\\''") + "'";

function showCurl() {
  const key = $('key').value ? " -H 'Authorization: Bearer YOUR_KEY'" : '';
  $('curl').textContent = 'curl -s ' + location.origin + '/rerank' + key +
    " -H 'Content-Type: application/json' -d " + quoted(JSON.stringify(body()));
}

function element(tag, name, text) {
  const e = document.createElement(tag);
  e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
}

function showResults(results, texts) {
  const all = results.map(r => r.score), most = Math.max(...all), least = Math.min(...all);
  const share = s => least >= 0 && most <= 1 ? s : most > least ? (s - least) / (most - least) : 1;
  $('results').replaceChildren(...results.map((r, i) => {
    const row = element('li', ''), bar = element('div', 'bar'), fill = element('i', '');
    fill.style.width = (100 * share(r.score)).toFixed(1) + '%';
    bar.append(fill);
    row.append(element('span', 'rank', i + 1), element('span', 'score', r.score.toPrecision(6)),
               element('span', 'text', texts[r.index]), bar);
    return row;
  }));
}

// The server's stages in one bar; what is left of the round trip is the way there and back.
function showTimings(header, wire) {
  const stages = (header || '').split(',').map(s => s.trim().split(';dur=')).filter(s => s.length === 2)
    .map(([name, ms]) => [name, Number(ms)]);
  const inside = stages.filter(s => s[0] !== 'total'), total = (stages.find(s => s[0] === 'total') || ['', 0])[1];
  const other = Math.max(0, total - inside.reduce((sum, s) => sum + s[1], 0));
  const parts = [...inside, ['other', other]];
  $('stages').replaceChildren(...parts.map(([, ms], i) => {
    const part = element('i', '');
    part.style.cssText = 'background:var(--c' + i + ');flex:' + Math.max(ms, 0) + ' 0 0';
    return part;
  }));
  $('timings').replaceChildren(...[...parts, ['total', total], ['round trip', wire]].map(([name, ms], i) => {
    const span = element('span', 'stage', ''), key = element('span', 'key');
    key.style.background = i < parts.length ? 'var(--c' + i + ')' : 'none';
    if (i >= parts.length) key.style.width = 0;
    span.append(key, name + ' ', element('b', '', ms.toFixed(3) + ' ms'));
    return span;
  }));
}

async function rank() {
  const ask = body();
  $('message').textContent = '';
  showCurl();
  try {
    const start = performance.now();
    const answer = await fetch('rerank', {method: 'POST', headers: headers(), body: JSON.stringify(ask)});
    const json = await answer.json();
    if (!answer.ok) throw new Error(answer.status + ': ' + (json.error || JSON.stringify(json)));
    showTimings(answer.headers.get('Server-Timing'), performance.now() - start);
    showResults(Array.isArray(json) ? json : json.results.map(r => ({index: r.index, score: r.relevance_score})), ask.texts);
  } catch (problem) {
    $('message').textContent = problem.message;
  }
}

// ---- charts ----
const series = {p50: [], p99: [], rate: [], batch: [], queue: []};
const LENGTH = 60;
let before = null;

function parse(text) {
  const page = {values: {}, buckets: {}};
  for (const line of text.split('\n')) {
    if (!line || line[0] === '#') continue;
    const at = line.lastIndexOf(' '), name = line.slice(0, at), value = Number(line.slice(at + 1));
    const bucket = name.match(/^(\w+)_bucket\{le="([^"]+)"\}$/);
    if (bucket) (page.buckets[bucket[1]] ||= []).push([bucket[2] === '+Inf' ? Infinity : Number(bucket[2]), value]);
    else page.values[name] = value;
  }
  return page;
}

function quantile(now, then, q) {
  const counts = now.map(([le, n], i) => [le, n - (then ? then[i][1] : 0)]);
  const total = counts.length ? counts[counts.length - 1][1] : 0;
  if (!total) return NaN;
  let last = 0, below = 0;
  for (const [le, n] of counts) {
    if (n >= q * total) return le === Infinity ? last : last + (le - last) * (q * total - below) / Math.max(n - below, 1);
    last = le;
    below = n;
  }
  return last;
}

function push(name, value) {
  series[name].push(value);
  if (series[name].length > LENGTH) series[name].shift();
}

// A round number at or above the highest value: the top of the scale.
function ceiling(most) {
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map(k => k * unit).find(top => top >= most * .999) || most;
}

function draw(id, names, unit) {
  const canvas = $(id), scale = window.devicePixelRatio || 1, left = 4, top = 24, bottom = 8;
  const w = canvas.clientWidth, h = canvas.clientHeight, c = canvas.getContext('2d');
  canvas.width = w * scale;
  canvas.height = h * scale;
  c.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const values = names.flatMap(n => series[n]).filter(Number.isFinite);
  const most = values.length && Math.max(...values) > 0 ? ceiling(Math.max(...values)) : 1;
  const y = v => h - bottom - (h - top - bottom) * v / most;
  c.font = '11px system-ui, sans-serif';
  c.strokeStyle = colour('--line');
  c.fillStyle = colour('--soft');
  for (const part of [0, .5, 1]) {
    c.beginPath();
    c.moveTo(left, y(part * most) + .5);
    c.lineTo(w - 2, y(part * most) + .5);
    c.stroke();
    if (part && values.length) c.fillText(+(part * most).toPrecision(3) + unit, left, y(part * most) - 3);
  }
  let right = w - 4;
  [...names].reverse().forEach((name, k) => {
    const line = colour(names.length - 1 - k ? '--warn' : '--mark');
    const points = series[name].map((v, i) => [w - 2 - (series[name].length - 1 - i) * (w - left - 2) / (LENGTH - 1), v]);
    c.strokeStyle = line;
    c.lineWidth = 1.6;
    c.lineJoin = 'round';
    // Seconds without a request leave gaps; each run of values is a line over its shade.
    let run = [];
    const flush = () => {
      if (run.length === 1) run.push([run[0][0] + 1.5, run[0][1]]);
      if (run.length) {
        c.beginPath();
        run.forEach(([x, v], i) => i ? c.lineTo(x, y(v)) : c.moveTo(x, y(v)));
        c.stroke();
        c.lineTo(run[run.length - 1][0], y(0));
        c.lineTo(run[0][0], y(0));
        c.globalAlpha = .12;
        c.fillStyle = line;
        c.fill();
        c.globalAlpha = 1;
      }
      run = [];
    };
    for (const point of points) Number.isFinite(point[1]) ? run.push(point) : flush();
    flush();
    const last = [...series[name]].reverse().find(Number.isFinite);
    if (last === undefined) return;
    const label = (names.length > 1 ? name + ' ' : '') + +last.toPrecision(3) + unit;
    c.fillStyle = line;
    right -= c.measureText(label).width;
    c.fillText(label, right, 11);
    right -= 10;
  });
}

async function scrape() {
  try {
    const answer = await fetch('metrics', {headers: headers()});
    if (!answer.ok) return;
    const now = parse(await answer.text());
    now.at = performance.now();
    if (before) {
      const seconds = (now.at - before.at) / 1000, time = 'crank_request_seconds', batch = 'crank_batch_pairs';
      push('p50', quantile(now.buckets[time], before.buckets[time], .5) * 1000);
      push('p99', quantile(now.buckets[time], before.buckets[time], .99) * 1000);
      push('rate', (now.values[time + '_count'] - before.values[time + '_count']) / seconds);
      push('batch', quantile(now.buckets[batch], before.buckets[batch], .5));
      push('queue', now.values.crank_queue_pairs);
      draw('latency', ['p50', 'p99'], ' ms');
      draw('rate', ['rate'], '/s');
      draw('batch', ['batch'], '');
      draw('queue', ['queue'], '');
    }
    before = now;
  } catch (problem) { /* the server is away: the next scrape tells */ }
}

async function about() {
  try {
    const answer = await fetch('info', {headers: headers()});
    if (!answer.ok) return;
    const info = await answer.json();
    $('about').textContent = info.models.join(', ') + ' \u00b7 ' + info.model_dtype + ' on ' + info.device + ' \u00b7 ' + info.version;
    $('model').replaceChildren(...info.models.map(name => new Option(name)));
  } catch (problem) { $('message').textContent = problem.message; }
}

$('run').addEventListener('click', rank);
$('query').addEventListener('keydown', event => { if (event.key === 'Enter') rank(); });
for (const id of ['query', 'documents', 'key', 'model']) $(id).addEventListener('input', showCurl);
$('key').addEventListener('change', about);
about().then(rank);
scrape();
setInterval(scrape, 1000);
