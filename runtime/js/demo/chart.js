/** A line chart of numbers as they come, drawn as SVG; the page's table says the same in words. */

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 150;
const MARGIN = { top: 12, right: 12, bottom: 22, left: 48 };

/**
 * Draw series over the number of the run, from zero up.
 *
 * @param {HTMLElement} place - Emptied first.
 * @param {{ name: string, values: number[] }[]} series - Lines of equal length.
 * @param {string} unit - For who hears the chart.
 */
export function drawLines(place, series, unit) {
  const width = Math.max(200, place.clientWidth);
  const values = series.flatMap((line) => line.values);
  const top = niceTop(Math.max(...values, 0));
  const count = Math.max(...series.map((line) => line.values.length), 2);
  const x = (run) => MARGIN.left + (run / (count - 1)) * (width - MARGIN.left - MARGIN.right);
  const y = (value) =>
    HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  svg.setAttribute("aria-label", describe(series, unit));
  for (const value of [0, top / 2, top]) {
    svg.append(
      make("line", {
        class: "grid",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: y(value),
        y2: y(value),
      }),
    );
    svg.append(label(String(value), { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }));
  }
  svg.append(label("run 1", { x: MARGIN.left, y: HEIGHT - 6 }));
  svg.append(
    label(String(count), { x: width - MARGIN.right, y: HEIGHT - 6, "text-anchor": "end" }),
  );
  for (const line of series) {
    const points = line.values.map((value, run) => `${x(run).toFixed(1)},${y(value).toFixed(1)}`);
    svg.append(make("polyline", { class: "series", points: points.join(" ") }));
  }
  place.replaceChildren(svg, ...(series.length > 1 ? [legend(series)] : []));
}

/** Return the smallest of 1, 2, 3, 4, 5, 6, 8 or 10 times a power of ten that is not below a value. */
function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) ?? 10) * power;
}

function describe(series, unit) {
  const parts = series
    .filter((line) => line.values.length)
    .map(({ name, values }) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return `${name}: ${values.length} runs from ${low.toFixed(1)} to ${high.toFixed(1)} ${unit}`;
    });
  return parts.join("; ") || "no runs yet";
}

function legend(series) {
  const place = document.createElement("div");
  place.className = "legend";
  for (const { name } of series) {
    const entry = document.createElement("span");
    entry.textContent = `— ${name}`;
    place.append(entry);
  }
  return place;
}

function label(content, attributes) {
  const text = make("text", attributes);
  text.textContent = content;
  return text;
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
