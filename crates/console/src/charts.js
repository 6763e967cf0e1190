(() => {
  const NS = 'http://www.w3.org/2000/svg', W = 600, H = 130, SPAN = 300;
  const styles = getComputedStyle(document.documentElement);
  const units = {
    us: v => v >= 1e6 ? (v / 1e6).toPrecision(3) + ' s' : v >= 1e3 ? (v / 1e3).toPrecision(3) + ' ms' : Math.round(v) + ' µs',
    rate: v => short(v) + '/s',
    count: v => short(v),
    bytes: v => v >= 1048576 ? (v / 1048576).toFixed(1) + ' MiB/s' : v >= 1024 ? (v / 1024).toFixed(1) + ' KiB/s' : Math.round(v) + ' B/s',
  };
  function short(v) {
    if (v >= 1e6) return (v / 1e6).toPrecision(3) + 'M';
    if (v >= 1e4) return (v / 1e3).toPrecision(3) + 'k';
    return v >= 100 || Number.isInteger(v) ? String(Math.round(v)) : v.toFixed(1);
  }
  function el(name, attributes, parent) {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  }
  // The next round number, so that the scale stays still while the values move a little.
  function ceiling(v, bytes) {
    if (!(v > 0)) return 1;
    if (bytes && v >= 1024) { const unit = v >= 1048576 ? 1048576 : 1024; return unit * ceiling(v / unit); }
    const ten = 10 ** Math.floor(Math.log10(v));
    return [1, 1.5, 2, 3, 5, 7.5, 10].find(step => step * ten >= v) * ten;
  }
  function draw(chart, samples) {
    const svg = chart.querySelector('svg'), unit = units[chart.dataset.unit];
    const lines = chart.dataset.lines.split(' ');
    const colors = [styles.getPropertyValue(lines[0] === 'errors' ? '--bad' : '--a'), styles.getPropertyValue('--b')];
    const top = ceiling(Math.max(0, ...lines.flatMap(l => samples.map(s => s[l] || 0))), chart.dataset.unit === 'bytes');
    const end = samples.length ? samples[samples.length - 1].t_ms : 0;
    svg.replaceChildren();
    svg.setAttribute('viewBox', `0 0 ${W} ${H}`);
    svg.setAttribute('preserveAspectRatio', 'none');
    const ink = styles.getPropertyValue('--line');
    for (const part of [0, .5, 1]) el('line', { x1: 0, x2: W, y1: H - part * (H - 4) - 1, y2: H - part * (H - 4) - 1, stroke: ink, 'stroke-width': 1, 'vector-effect': 'non-scaling-stroke' }, svg);
    const x = s => W - (end - s.t_ms) / 1000 / SPAN * W, y = v => H - 1 - v / top * (H - 4);
    lines.forEach((line, i) => {
      let path = '', area = '', open = null;
      for (const s of samples) {
        const v = s[line];
        if (v === null || v === undefined) { open = null; continue; }
        path += (open === null ? 'M' : 'L') + x(s).toFixed(1) + ' ' + y(v).toFixed(1);
        open = s;
      }
      if (i === 0 && samples.length > 1 && samples.every(s => s[line] !== null)) {
        area = path + `L${x(samples[samples.length - 1]).toFixed(1)} ${H}L${x(samples[0]).toFixed(1)} ${H}Z`;
        el('path', { d: area, fill: colors[0], opacity: .1 }, svg);
      }
      el('path', { d: path, fill: 'none', stroke: colors[i], 'stroke-width': 1.6, 'stroke-linejoin': 'round', 'stroke-linecap': 'round', 'vector-effect': 'non-scaling-stroke' }, svg);
    });
    chart.querySelector('small').textContent = 'to ' + unit(top);
    chart.querySelectorAll('.legend span').forEach((entry, i) => {
      entry.querySelector('i').style.background = colors[i];
      const last = [...samples].reverse().find(s => s[lines[i]] !== null);
      entry.querySelector('b').textContent = last ? unit(last[lines[i]]) : '–';
    });
  }
  async function refresh() {
    try {
      const { samples } = await (await fetch('/v1/series')).json();
      document.querySelectorAll('.chart').forEach(chart => draw(chart, samples));
      document.getElementById('stale').hidden = true;
    } catch { document.getElementById('stale').hidden = false; }
  }
  refresh();
  setInterval(refresh, 1000);
})();
