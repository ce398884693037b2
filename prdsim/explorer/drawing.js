"use strict";
// How filters and curves are drawn: one object for page.js.
const drawing = (() => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  // Return the filters of a run, of `count` numbers, in steps: at t = 0, and their changes at each
  // time, one after another. See frames.py.
  async function unpack(text, count) {
    const inflater = new DecompressionStream("deflate");
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(inflater);
    const steps = new Int8Array(await new Response(stream).arrayBuffer());
    const changes = steps.subarray(count);
    for (let i = count; i < changes.length; i++) changes[i] += changes[i - count]; // modulo 256
    return { start: steps.subarray(0, count), changes };
  }

  // The colors of numbers on the scale of a view, "weights" or "changes".
  class Colors {
    constructor(text, levels, scales) {
      const bytes = bytesOf(text);
      this.levels = levels;
      this.scales = scales;
      this.table = new Uint32Array(2 * levels + 1);
      const four = new Uint8Array(this.table.buffer);
      for (let k = 0; k < this.table.length; k++) {
        four.set([bytes[3 * k], bytes[3 * k + 1], bytes[3 * k + 2], 255], 4 * k);
      }
    }

    limit(view) {
      return view === "weights" ? this.scales.weights_limit : this.scales.changes_limit;
    }

    // Paint the filter of a place among the frames' at (left, top) of an image.
    paint(pixels, width, frames, view, at, place, grid, left, top) {
      const [rows, columns] = grid;
      const { levels, table, scales } = this;
      const factor = levels / this.limit(view);
      const ofStart = view === "weights" ? factor * scales.start_step : 0;
      const ofChange = factor * scales.change_step;
      let from = place * rows * columns;
      let change = at * frames.start.length + from;
      for (let row = 0; row < rows; row++) {
        let to = (top + row) * width + left;
        for (let column = 0; column < columns; column++) {
          const level = Math.floor(
            ofStart * frames.start[from++] + ofChange * frames.changes[change++] + 0.5,
          );
          pixels[to++] = table[levels + Math.max(-levels, Math.min(levels, level))];
        }
      }
    }
  }

  // A canvas of filters in tiles, with a line around each.
  class Tiles {
    constructor(canvas, tiles, grid) {
      [this.tileRows, this.tileColumns] = tiles;
      this.grid = grid;
      canvas.width = this.tileColumns * (grid[1] + 1) + 1;
      canvas.height = this.tileRows * (grid[0] + 1) + 1;
      this.canvas = canvas;
      this.context = canvas.getContext("2d", { willReadFrequently: true });
      this.image = this.context.createImageData(canvas.width, canvas.height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }

    // The left and top pixel of a tile.
    corner(tile) {
      const [rows, columns] = this.grid;
      const down = Math.floor(tile / this.tileColumns);
      return [(tile % this.tileColumns) * (columns + 1) + 1, down * (rows + 1) + 1];
    }

    // The tile at a point, each coordinate a share of the canvas's size; -1 where there is none.
    tileAt(x, y) {
      const column = Math.floor((x * this.canvas.width) / (this.grid[1] + 1));
      const row = Math.floor((y * this.canvas.height) / (this.grid[0] + 1));
      const inside = column >= 0 && row >= 0 && column < this.tileColumns && row < this.tileRows;
      return inside ? row * this.tileColumns + column : -1;
    }

    paint(colors, frames, view, at, place, tile) {
      const [left, top] = this.corner(tile);
      colors.paint(this.pixels, this.canvas.width, frames, view, at, place, this.grid, left, top);
    }

    show() {
      this.context.putImageData(this.image, 0, 0);
    }
  }

  const HEIGHT = 210; // of a chart
  const css = (name) => getComputedStyle(document.body).getPropertyValue(name);
  const short = (value) => (value == null ? "-" : String(Number(value.toPrecision(4))));

  // As many digits as tell ticks apart.
  function ticks(_, values) {
    const step = values.length > 1 ? Math.abs(values[1] - values[0]) : 0;
    const digits = step > 0 ? Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) : 4;
    const text = (value) => (digits > 6 ? value.toExponential(2) : value.toFixed(digits));
    return values.map((value) => (value == null ? "" : text(value)));
  }

  // Curves that are constant lie in the middle of their chart.
  function range(_, least, most) {
    if (least == null) return [0, 1];
    if (least === most) return [least - (Math.abs(least) / 10 || 1), most + (Math.abs(most) / 10 || 1)];
    return uPlot.rangeNum(least, most, 0.1, true);
  }

  // Curves over a common axis, with a line at a mark.
  class Chart {
    constructor(parent, axis) {
      this.parent = parent;
      this.axis = axis;
      this.mark = null;
      this.plot = null;
      new ResizeObserver(() => this.fit()).observe(parent);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    }

    // Show curves: {x, y, color, dash}, the numbers null where there are none.
    set(curves) {
      this.plot?.destroy();
      const look = () => ({ stroke: () => css("--soft"), grid: { stroke: () => css("--grid") } });
      const options = {
        width: Math.max(this.parent.clientWidth, 100),
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: false }, y: { range } },
        axes: [
          {
            ...look(), label: this.axis, labelSize: 20, size: 32, labelFont: "12px sans-serif",
            values: ticks,
          },
          { ...look(), size: 64, values: ticks },
        ],
        series: [
          {},
          ...curves.map(({ x, color, dash }) => ({
            stroke: color, width: 1.8, dash, spanGaps: true, points: { show: x.length < 3 },
          })),
        ],
        hooks: { draw: [(plot) => this.line(plot)] },
      };
      const data = curves.length ? uPlot.join(curves.map(({ x, y }) => [x, y])) : [[0], [null]];
      this.plot = new uPlot(options, data, this.parent);
    }

    line(plot) {
      if (this.mark === null) return;
      const x = Math.round(plot.valToPos(this.mark, "x", true));
      const { top, height } = plot.bbox;
      plot.ctx.fillStyle = css("--soft");
      plot.ctx.fillRect(x, top, devicePixelRatio, height);
    }

    fit() {
      const width = this.parent.clientWidth;
      if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    }

    redraw() {
      this.plot?.redraw(false, true);
    }

    moveTo(x) {
      this.mark = x;
      this.redraw();
    }
  }

  return { unpack, Colors, Tiles, Chart, css, short };
})();
