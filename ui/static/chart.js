// A page's charts: uPlot over the points that #chart-points carries as data. They share the x axis,
// the cursor and the zoom. Each .chart names its lines: [curve, label, colour].

(() => {
  const charts = [];
  let curves = {};
  let zoom = null;

  const FORMATS = {
    loss: (value) => value.toFixed(Math.abs(value) < 10 ? 4 : 2),
    rate: (value) => (value === 0 || Math.abs(value) >= 1e-3 ? String(Number(value.toPrecision(3))) : value.toExponential(1)),
    count: (value) => Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value),
    bytes: (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${Math.round(value / 1e6)} MB`),
    percent: (value) => `${(100 * value).toFixed(1)}%`,
  };
  const short = { loss: (value) => String(Number(value.toPrecision(3))), percent: (value) => `${Math.round(100 * value)}%` };

  // The points -------------------------------------------------------------------------------

  function read() {
    const holder = document.querySelector("#chart-points [data-points]");
    if (!holder) return;
    const news = JSON.parse(holder.dataset.points);
    for (const name of new Set([...Object.keys(curves), ...Object.keys(news.curves)])) {
      const [xs, ys] = curves[name] || [[], []];
      let kept = xs.length;
      while (kept && xs[kept - 1] >= news.since) kept -= 1;
      const [moreX, moreY] = news.curves[name] || [[], []];
      curves[name] = [xs.slice(0, kept).concat(moreX), ys.slice(0, kept).concat(moreY)];
    }
  }

  function dataOf(lines) {
    const tables = lines.map(([curve]) => curves[curve] || [[], []]);
    return tables.length === 1 ? tables[0] : uPlot.join(tables);
  }

  // From the first to the last point of any chart: all of them share the axis.
  function fullRange() {
    const ends = Object.values(curves).filter(([xs]) => xs.length).flatMap(([xs]) => [xs[0], xs.at(-1)]);
    const [from, to] = [Math.min(...ends), Math.max(...ends)];
    return from < to ? [from, to] : [from - 1, to + 1];
  }

  // One chart --------------------------------------------------------------------------------

  function options(figure, box, lines) {
    const style = getComputedStyle(figure);
    const color = (name) => style.getPropertyValue(name).trim();
    const format = FORMATS[figure.dataset.format];
    const brief = short[figure.dataset.format] || format;
    const axis = {
      stroke: color("--line-text"),
      grid: { stroke: color("--line-grid"), width: 1 },
      ticks: { show: false },
      font: `12px ${style.fontFamily}`,
      gap: 6,
    };
    return {
      width: box.clientWidth,
      height: box.clientHeight,
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        bind: { dblclick: () => () => { show(null); } },
        sync: { key: "charts", setSeries: false, scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      },
      scales: { x: { time: false, range: () => (zoom ? [zoom.min, zoom.max] : fullRange()) } },
      axes: [
        { ...axis, size: 28, space: 60 },
        { ...axis, size: 58, space: 34, values: (_, splits) => splits.map(brief) },
      ],
      series: [
        {},
        ...lines.map(([curve, label, number]) => ({
          label,
          stroke: color(`--line-${number}`),
          width: 1.6,
          // Of a validation there are few, and each counts.
          points: { size: 5, ...(curve.includes("eval_") && { show: () => curves[curve]?.[0].length <= 100 }) },
        })),
      ],
      hooks: {
        setScale: [(plot, key) => { if (key === "x") noteRange(figure, plot); }],
        setCursor: [(plot) => tell(figure, plot, lines, format)],
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width < 4) return;
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          show({ min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") });
        }],
      },
    };
  }

  // What each line has at the cursor, or had last.
  function valuesAt(plot, lines) {
    const index = plot.cursor.idx ?? plot.data[0].length - 1;
    return lines.map(([, label, number], line) => {
      let at = index;
      while (at >= 0 && plot.data[line + 1][at] == null) at -= 1;
      return { label, number, value: at < 0 ? null : plot.data[line + 1][at] };
    });
  }

  function tell(figure, plot, lines, format) {
    figure.querySelector(".chart-read").replaceChildren(
      ...valuesAt(plot, lines).map(({ label, number, value }) => {
        const item = document.createElement("span");
        const swatch = document.createElement("i");
        swatch.className = `swatch line-${number}`;
        const shown = document.createElement("b");
        shown.textContent = value == null ? "–" : format(value);
        const name = document.createElement("span");
        name.className = "chart-label";
        name.textContent = label;
        if (lines.length > 1) item.append(swatch, name);
        item.append(shown);
        return item;
      }),
    );
    const place = document.getElementById("chart-at");
    const index = plot.cursor.idx;
    place.textContent = index == null ? "" : `${place.dataset.x} ${Number(plot.data[0][index].toPrecision(6))}`;
  }

  function draw(figure) {
    const lines = JSON.parse(figure.dataset.lines);
    const data = dataOf(lines);
    const box = figure.querySelector(".chart-box");
    figure.hidden = !data[0].length;
    if (figure.hidden) return;
    let chart = charts.find((known) => known.figure === figure);
    if (!chart) {
      const plot = new uPlot(options(figure, box, lines), data, box);
      chart = { figure, box, plot, lines };
      charts.push(chart);
      resizes.observe(box);
      plot.over.addEventListener("mouseleave", () => tell(figure, plot, lines, FORMATS[figure.dataset.format]));
    } else {
      chart.plot.setData(data);
    }
    tell(figure, chart.plot, lines, FORMATS[figure.dataset.format]);
    // For people and tests: how many points are drawn, and which part of the axis shows.
    figure.dataset.drawn = String(data[0].length);
  }

  function noteRange(figure, plot) {
    const { min, max } = plot.scales.x;
    figure.dataset.range = JSON.stringify([min, max]);
  }

  function drawAll() {
    for (const figure of document.querySelectorAll(".chart")) draw(figure);
    const empty = document.getElementById("chart-empty");
    if (empty) empty.hidden = charts.length > 0;
  }

  const resizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const chart = charts.find((known) => known.box === target);
      if (chart && target.clientWidth) chart.plot.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  });

  // Zoom and keys ----------------------------------------------------------------------------

  function show(range) {
    zoom = range;
    const reset = document.getElementById("chart-reset");
    if (!range && document.activeElement === reset) charts[0]?.box.focus();
    reset.hidden = !range;
    const [min, max] = fullRange();
    for (const { plot } of charts) plot.setScale("x", range || { min, max });
  }

  function zoomBy(plot, factor) {
    const { min, max } = plot.scales.x;
    const xs = plot.data[0];
    const middle = plot.cursor.idx == null ? (min + max) / 2 : xs[plot.cursor.idx];
    const half = ((max - min) / 2) * factor;
    const [first, last] = fullRange();
    const [from, to] = [Math.max(first, middle - half), Math.min(last, middle + half)];
    if (to > from) show(from === first && to === last ? null : { min: from, max: to });
  }

  function step(plot, by) {
    const { min, max } = plot.scales.x;
    const xs = plot.data[0];
    const seen = xs.map((x, index) => (x >= min && x <= max ? index : -1)).filter((index) => index >= 0);
    if (!seen.length) return;
    const wanted = (plot.cursor.idx ?? (by < 0 ? seen.at(-1) + 1 : seen[0] - 1)) + by;
    const index = Math.min(seen.at(-1), Math.max(seen[0], wanted));
    for (const chart of charts) chart.plot.setCursor({ left: chart.plot.valToPos(xs[index], "x"), top: 1 }, true, false);
  }

  document.addEventListener("keydown", (event) => {
    const chart = charts.find((known) => known.box === event.target);
    if (!chart || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1;
    const keys = {
      ArrowLeft: () => step(chart.plot, -far),
      ArrowRight: () => step(chart.plot, far),
      "+": () => zoomBy(chart.plot, 0.5),
      "-": () => zoomBy(chart.plot, 2),
      Escape: () => show(null),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
    const values = valuesAt(chart.plot, chart.lines).filter(({ value }) => value != null);
    const format = FORMATS[chart.figure.dataset.format];
    document.getElementById("chart-said").textContent =
      [document.getElementById("chart-at").textContent, ...values.map(({ label, value }) => `${label} ${format(value)}`)].join(", ");
  });

  document.addEventListener("click", (event) => {
    if (event.target.id === "chart-reset") show(null);
  });

  // Life -------------------------------------------------------------------------------------

  function refresh() {
    read();
    drawAll();
  }

  document.addEventListener("DOMContentLoaded", refresh);
  document.addEventListener("htmx:sseMessage", (event) => {
    if (event.target.id === "chart-points") refresh();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const { plot, box } of charts.splice(0)) {
      resizes.unobserve(box);
      plot.destroy();
    }
    drawAll();
  });
})();
