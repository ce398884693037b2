"use strict";
// What the page does: its state (a time, a neuron, a view) and all that shows it.
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const attached = JSON.parse(byId("attached").textContent);
  const { Colors, Tiles, Chart, css, short } = drawing;
  const FIRST = [
    "distance_U_mean", "distance_V_mean", "loss_sup", "loss_adv", "morans_i_change", "alignment_U",
  ];

  const [rows, columns] = data.grid;
  const size = data.neurons.length * rows * columns;
  const pictured = data.runs.filter((run) => run.pictured);
  pictured.forEach((run) => (run.number = data.runs.indexOf(run)));
  const times = [...new Set(data.runs.flatMap((run) => run.time))].sort((a, b) => a - b);
  const moved = pictured.at(-1).distances.U.at(-1);
  const farthest = data.neurons[moved.indexOf(Math.max(...moved))];
  const state = { at: times.length - 1, neuron: farthest, view: "weights" };

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  // The last place of an ascending list whose value is no later than a time; the first if none is.
  const upTo = (list, time) => Math.max(list.findLastIndex((each) => each <= time), 0);
  const now = () => times[state.at];
  const reaches = ({ x }, time) => time <= x.at(-1) * (1 + 1e-4); // with five digits
  const place = () => data.neurons.indexOf(state.neuron);
  const colorOf = (number) => {
    const probe = document.querySelectorAll(".runs li")[number];
    return getComputedStyle(probe).getPropertyValue("--run").trim();
  };

  // -- curves ---------------------------------------------------------------------------------------

  const charts = []; // functions that show the time

  // A chart with what it says of its curves at the time shown.
  function addChart(parent, axis, heading) {
    const holder = element("div", { className: "chart" });
    const canvas = element("div");
    const words = element("ul", { className: "now" });
    const note = element("p", { className: "now" });
    canvas.setAttribute("role", "img");
    holder.append(heading, canvas, words, note);
    parent.append(holder);
    return { chart: new Chart(canvas, axis), canvas, words, note };
  }

  // Say the curves' values at a time: means over the runs of each label.
  function say(words, curves, time) {
    const byLabel = Map.groupBy(curves, (curve) => curve.label);
    words.replaceChildren(
      ...[...byLabel].map(([label, same]) => {
        const there = same.filter((curve) => reaches(curve, time));
        const values = there.map(({ x, y }) => y[upTo(x, time)]).filter((value) => value != null);
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        const many = same.length > 1 ? ` (mean of ${values.length} of ${same.length} runs)` : "";
        const none = there.length ? "undefined" : "ended before";
        const text = `${label}: ${values.length ? short(mean) + many : none}`;
        const swatch = element("span", { className: "swatch" });
        return element("li", { className: `run-${same[0].number}` }, swatch, text);
      }),
    );
  }

  const errorOf = (name) => `discretization at the end: ${data.errors[name] ?? "not assessed"}`;

  const measured = (run, name) =>
    run.curves[name] ? { x: run.time, y: run.curves[name] }
      : run.scalars[name] ? { x: run.scalars.time, y: run.scalars[name] } : null;

  function curvesOf(name) {
    return data.runs.flatMap((run, number) => {
      const found = measured(run, name);
      return found ? [{ ...found, color: colorOf(number), label: run.label, number }] : [];
    });
  }

  function chooser(name) {
    const select = element("select", { ariaLabel: "Measure of this chart" });
    for (const [group, names] of Object.entries(data.groups)) {
      const options = names.map((each) => element("option", { value: each }, data.names[each]));
      select.append(element("optgroup", { label: group }, ...options));
    }
    select.value = name;
    return select;
  }

  function addMeasure(name) {
    const select = chooser(name);
    const { chart, canvas, words, note } = addChart(byId("curves"), "time t", select);
    let curves = [];
    const show = () => {
      chart.moveTo(now());
      say(words, curves, now());
    };
    const choose = () => {
      curves = curvesOf(select.value);
      chart.set(curves);
      canvas.ariaLabel = `Curves over time: ${data.names[select.value]}`;
      note.textContent = errorOf(select.value);
      show();
    };
    select.addEventListener("change", choose);
    choose();
    charts.push(show);
  }

  function addSpectrum() {
    const runs = pictured.filter((run) => run.spectra);
    if (!runs.length) return;
    const heading = element("h3", {}, "Spectrum of changes u_j(t) - u_j(0), of the filters shown");
    const { chart, canvas, words, note } = addChart(
      byId("curves"), "frequency, cycles per pixel", heading,
    );
    canvas.ariaLabel = "Mean power of the filters' changes over spatial frequency";
    const show = () => {
      const curves = runs.map((run) => ({
        x: run.spectra.frequency,
        y: run.spectra.power[upTo(run.time, now())],
        color: colorOf(run.number), label: run.label, number: run.number,
      }));
      chart.set(curves);
      const peaks = curves.map((curve) => {
        const top = curve.y.indexOf(Math.max(...curve.y));
        return { ...curve, x: [0], y: [curve.y[top] > 0 ? 1 / curve.x[top] : null] };
      });
      say(words, peaks, 0);
    };
    note.textContent = `wavelengths of the peaks, in pixels; ${errorOf("wavelength_change")}`;
    show();
    charts.push(show);
  }

  // The columns of a table of a file over time: each can be chosen, the first three are.
  function addAttached() {
    for (const holder of document.querySelectorAll(".attached")) {
      const { time, ...columns } = attached[Number(holder.dataset.table)];
      const names = Object.keys(columns);
      if (!time || !names.length) continue;
      holder.hidden = false;
      const choices = names.map((name, k) => {
        const box = element("input", { type: "checkbox", checked: k < 3 });
        const swatch = element("span", { className: "swatch" });
        const label = element("label", { className: `column-${k % 6}` }, box, " ", swatch, " ", name);
        return { name, box, label };
      });
      const group = element("div", { className: "columns" }, ...choices.map(({ label }) => label));
      group.setAttribute("role", "group");
      group.ariaLabel = "Columns of this chart";
      const { chart, canvas } = addChart(holder, "time t", group);
      const choose = () => {
        const chosen = choices.filter(({ box }) => box.checked);
        const colorOf = (label) => getComputedStyle(label).getPropertyValue("--run").trim();
        chart.set(chosen.map(({ name, label }) => ({ x: time, y: columns[name], color: colorOf(label) })));
        canvas.ariaLabel = `Curves over time: ${chosen.map(({ name }) => name).join(", ")}`;
      };
      group.addEventListener("change", choose);
      choose();
    }
  }

  // -- filters --------------------------------------------------------------------------------------

  const colors = new Colors(data.colors, data.levels, data.scales);
  const mosaics = [];
  let still = false; // whether no filter changes in any run

  function addMosaic(run) {
    const canvas = element("canvas", { className: "filters" });
    if (rows === 1) canvas.style.height = `${Math.min(12 * data.neurons.length, 480)}px`;
    canvas.setAttribute("role", "img");
    const frame = element("div", { className: "frame" });
    const holder = element("div", { className: "mosaic" }, canvas, frame);
    const caption = element("figcaption", { className: `run-${run.number}` });
    byId("mosaics").append(element("figure", {}, holder, caption));
    const tiles = new Tiles(canvas, data.tiles, data.grid);
    canvas.addEventListener("click", (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      const tile = tiles.tileAt((event.clientX - left) / width, (event.clientY - top) / height);
      if (tile in data.neurons) change({ neuron: data.neurons[tile] });
    });
    mosaics.push({ run, tiles, frame, caption });
  }

  function showMosaic({ run, tiles, frame, caption }) {
    const at = upTo(run.time, now());
    data.neurons.forEach((_, k) => tiles.paint(colors, run.frames, state.view, at, k, k));
    tiles.show();
    const { width, height } = tiles.canvas;
    const [left, top] = tiles.corner(place());
    Object.assign(frame.style, {
      left: `${(100 * left) / width}%`, width: `${(100 * columns) / width}%`,
      top: `${(100 * top) / height}%`, height: `${(100 * rows) / height}%`,
    });
    const name = element("b", {}, run.label);
    caption.replaceChildren(
      element("span", { className: "swatch" }), " ", name, `, ${run.name}, t = ${run.time[at]}`,
    );
    const what = state.view === "weights" ? "filters" : "changes of filters";
    tiles.canvas.ariaLabel = `${data.neurons.length} ${what}, ${run.label}, t = ${run.time[at]}`;
  }

  function showScale() {
    if (state.view === "changes" && still) {
      byId("scale").textContent = "No filter changes.";
      return;
    }
    const limit = colors.limit(state.view);
    const bar = element("canvas", { className: "bar", width: colors.table.length, height: 1 });
    const context = bar.getContext("2d");
    const image = context.createImageData(colors.table.length, 1);
    new Uint32Array(image.data.buffer).set(colors.table);
    context.putImageData(image, 0, 0);
    bar.setAttribute("aria-hidden", "true");
    const { start_step: start, change_step: step } = data.scales;
    byId("scale").replaceChildren(
      `${short(-limit)} `, bar,
      ` ${short(limit)}; larger entries have the colors of the ends. One scale for all runs and ` +
        `times. ${still ? "No filter changes" : `Changes are kept in steps of ${short(step)}`}` +
        (state.view === "weights" ? `; filters at t = 0 in steps of ${short(start)}.` : "."),
    );
  }

  // -- one neuron -----------------------------------------------------------------------------------

  const details = [];
  let ofNeuron = null;

  function addDetails(run) {
    const canvas = element("canvas");
    canvas.setAttribute("role", "img");
    const caption = element("figcaption");
    byId("details").append(element("figure", {}, canvas, caption));
    const shape = rows > 1 ? [1, 3] : [3, 1];
    if (rows === 1) canvas.style.height = "72px";
    details.push({ run, canvas, caption, tiles: new Tiles(canvas, shape, data.grid) });
  }

  function showDetails({ run, canvas, caption, tiles }) {
    const at = upTo(run.time, now());
    const parts = [["weights", 0], ["weights", at], ["changes", at]];
    parts.forEach(([view, when], k) => tiles.paint(colors, run.frames, view, when, place(), k));
    tiles.show();
    const [U, V] = ["U", "V"].map((name) => short(run.distances[name][at][place()]));
    const text = `${run.label}: u(0), u(t), their difference; moved by ${U}, its v by ${V}`;
    caption.textContent = text;
    canvas.ariaLabel = `Neuron ${state.neuron}, ${text}`;
  }

  function addNeuronCharts() {
    const shown = ["U", "V"].map((name) => {
      const symbol = name === "U" ? "u" : "v";
      const heading = element("h3", {}, `Its distance ||${symbol}(t) - ${symbol}(0)||`);
      const added = addChart(byId("neuron-curves"), "time t", heading);
      added.note.textContent = "discretization: not assessed for single neurons";
      return { name, ...added };
    });
    ofNeuron = () => {
      for (const { name, chart, canvas, words } of shown) {
        const curves = pictured.map((run) => ({
          x: run.time, y: run.distances[name].map((each) => each[place()]),
          color: colorOf(run.number), label: run.label, number: run.number,
        }));
        chart.set(curves);
        chart.moveTo(now());
        say(words, curves, now());
        canvas.ariaLabel = `Distance of neuron ${state.neuron} from its start over time`;
      }
    };
  }

  // -- the state ------------------------------------------------------------------------------------

  function show() {
    mosaics.forEach(showMosaic);
    showScale();
    details.forEach(showDetails);
    ofNeuron();
    charts.forEach((each) => each());
    byId("at").value = state.at;
    byId("at").ariaValueText = `t = ${now()}`;
    byId("time").textContent = `t = ${now()} (${state.at + 1} of ${times.length})`;
    byId("neuron").value = state.neuron;
    byId("chosen").textContent = state.neuron;
    byId("controls").elements.view.value = state.view;
    remember();
  }

  let due = 0;
  function change(changes) {
    Object.assign(state, changes);
    cancelAnimationFrame(due);
    due = requestAnimationFrame(show);
  }

  // The state is in the address, so that a link, or the next version of the page, shows the same.
  function remember() {
    const last = state.at === times.length - 1;
    const at = last ? "last" : state.at;
    try {
      history.replaceState(null, "", `#at=${at}&neuron=${state.neuron}&view=${state.view}`);
    } catch {
      // a browser that protects addresses of files
    }
  }

  function recall() {
    const given = new URLSearchParams(location.hash.slice(1));
    const [at, neuron] = ["at", "neuron"].map((name) => Number(given.get(name) || NaN));
    if (at in times) state.at = at;
    if (data.neurons.includes(neuron)) state.neuron = neuron;
    if (given.get("view") === "changes") state.view = "changes";
  }

  // The shown neuron nearest to a number, in the direction from the one before.
  function nextNeuron(number) {
    const { neurons } = data;
    if (number > state.neuron) return neurons.find((each) => each >= number) ?? neurons.at(-1);
    return neurons.findLast((each) => each <= number) ?? neurons[0];
  }

  let playing = 0;
  function play() {
    clearInterval(playing);
    playing = playing ? 0 : setInterval(() => change({ at: (state.at + 1) % times.length }), 150);
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("play").ariaPressed = String(Boolean(playing));
  }

  function listen() {
    byId("at").max = times.length - 1;
    byId("at").addEventListener("input", (event) => change({ at: event.target.valueAsNumber }));
    const number = byId("neuron");
    [number.min, number.max] = [data.neurons[0], data.neurons.at(-1)];
    number.addEventListener("change", () => {
      change({ neuron: nextNeuron(Number.isNaN(number.valueAsNumber) ? state.neuron : number.valueAsNumber) });
    });
    for (const radio of byId("controls").elements.view) {
      radio.addEventListener("change", () => change({ view: radio.value }));
    }
    byId("play").addEventListener("click", play);
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", () => {
      recall();
      change({});
    });
  }

  // Load the page again when its server has a newer version of it.
  function watch() {
    const ask = async () => {
      try {
        const answer = await fetch("version", { cache: "no-store" });
        const version = await answer.text();
        if (!answer.ok) throw new Error("it is not there any more");
        if (version !== data.version) return location.reload();
      } catch {
        return complain("prdsim report --watch has ended: the page is no longer brought up to date");
      }
      setTimeout(ask, 2000);
    };
    if (data.version) setTimeout(ask, 2000);
  }

  function complain(text) {
    byId("trouble").textContent = text;
    byId("trouble").hidden = false;
  }

  // -- the beginning --------------------------------------------------------------------------------

  if (typeof DecompressionStream === "undefined") {
    return complain("This browser is too old to show filters over time; the picture shows three times.");
  }
  const texts = document.querySelectorAll("script.frames");
  await Promise.all(
    pictured.map(async (run, k) => (run.frames = await drawing.unpack(texts[k].textContent, size))),
  );
  still = pictured.every((run) => run.frames.changes.every((change) => change === 0));
  recall();
  for (const part of document.querySelectorAll(".live:not(.attached)")) part.hidden = false;
  document.querySelector(".still").hidden = true;
  pictured.forEach(addMosaic);
  pictured.forEach(addDetails);
  addNeuronCharts();
  const known = Object.values(data.groups).flat();
  FIRST.filter((name) => known.includes(name)).forEach(addMeasure);
  addSpectrum();
  addAttached();
  listen();
  show();
  performance.mark("shown");
  watch();
})();
