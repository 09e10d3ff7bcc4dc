// The loss curve: uPlot over the points that the run's panel carries as data.

(() => {
  let chart = null;

  function read() {
    const holder = document.getElementById("loss-points");
    const points = holder ? JSON.parse(holder.dataset.points) : null;
    return points && points.step.length ? [points.step, points.loss, points.eval] : null;
  }

  function options(box) {
    const style = getComputedStyle(box);
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: style.color,
      grid: { stroke: color("--line-grid"), width: 1 },
      ticks: { stroke: color("--line-grid"), width: 1 },
      font: `12px ${style.fontFamily}`,
    };
    const decimals = (plot, value) => (value == null ? "–" : value.toFixed(4));
    return {
      width: box.clientWidth,
      height: 240,
      padding: [10, 12, 0, 0],
      cursor: { y: false, drag: { x: true, y: false } },
      scales: { x: { time: false } },
      axes: [{ ...axis, size: 34 }, { ...axis, size: 52 }],
      series: [
        { label: "Step" },
        { label: "Training", stroke: color("--line-train"), width: 1.75, value: decimals, points: { show: false } },
        { label: "Validation", stroke: color("--line-eval"), width: 1.75, spanGaps: true, value: decimals, points: { show: true, size: 6 } },
      ],
    };
  }

  function draw() {
    const box = document.getElementById("loss-chart");
    const data = read();
    if (!box || !data) return;
    if (!chart) {
      chart = new uPlot(options(box), data, box);
      new ResizeObserver(() => chart && chart.setSize({ width: box.clientWidth, height: 240 })).observe(box);
    } else {
      chart.setData(data);
    }
    // For people and tests: how far the drawn curve reaches.
    box.dataset.drawn = String(data[0].length);
  }

  function redraw() {
    if (!chart) return;
    chart.destroy();
    chart = null;
    draw();
  }

  document.addEventListener("DOMContentLoaded", draw);
  document.addEventListener("htmx:sseMessage", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
