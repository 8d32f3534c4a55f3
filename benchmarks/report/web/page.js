// Sorting, filters and plots of page.html; what is drawn is in the element with the id "data".
"use strict";
(() => {
  const { boards, styles } = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("leaderboard");
  const filters = document.getElementById("filters");
  const plots = [...document.querySelectorAll(".plot")];
  const darkMode = matchMedia("(prefers-color-scheme: dark)");
  const fingers = matchMedia("(pointer: coarse)");
  // So many algorithms are told apart in one plot; more get one each, before the others in grey.
  const TOGETHER = 5;

  // --- sorting: within each environment -------------------------------------------------------------------------------
  function sortBy(header) {
    const column = header.cellIndex;
    const textual = header.classList.contains("text");
    const before = header.getAttribute("aria-sort");
    const order = before ? (before === "ascending" ? "descending" : "ascending") : textual ? "ascending" : "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      if (textual) return sign * (a < b ? -1 : a > b ? 1 : 0);
      // What has no value comes last, either way.
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (Number(a) - Number(b));
    };
    for (const body of table.tBodies) {
      const rows = [...body.rows].slice(1);
      rows.sort((a, b) => compare(value(a), value(b)));
      body.append(...rows);
    }
  }
  for (const header of table.tHead.querySelectorAll("th")) {
    header.querySelector("button").addEventListener("click", () => sortBy(header));
  }

  // --- filters --------------------------------------------------------------------------------------------------------
  let shown = new Set();
  const chips = [...document.querySelectorAll("#chips input")];
  const options = [...document.querySelectorAll("#environment option[data-names]")];
  const within = (text, words) => !words.length || words.some((word) => text.toLowerCase().includes(word));

  function filter() {
    const environment = document.getElementById("environment").value;
    const words = document.getElementById("search").value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    // A word that is of no algorithm may be of an environment.
    const ofAlgorithms = (word) => chips.some((chip) => within(chip.value, [word])) || !options.some((option) => within(option.dataset.names, [word]));
    const names = words.filter(ofAlgorithms), places = words.filter((word) => !ofAlgorithms(word));
    const open = new Set(options.filter((option) => (!environment || option.value === environment) && within(option.dataset.names, places)).map((option) => option.value));
    const there = new Set([...table.tBodies].filter((body) => open.has(body.dataset.board)).flatMap((body) => [...body.querySelectorAll("[data-label]")].map((row) => row.dataset.label)));
    for (const chip of chips) chip.parentElement.hidden = !there.has(chip.value);
    const chosen = chips.filter((chip) => chip.checked);
    document.getElementById("chosen").textContent = chosen.length === chips.length ? `all ${chips.length}` : `${chosen.length} of ${chips.length}`;
    shown = new Set(chosen.map((chip) => chip.value).filter((label) => within(label, names)));
    const known = new Set(chips.map((chip) => chip.value));
    for (const element of document.querySelectorAll("main [data-label]")) {
      // A verdict is of an algorithm, of which a table may show several versions by other labels.
      element.hidden = known.has(element.dataset.label) && !shown.has(element.dataset.label);
    }
    let count = 0;
    for (const element of document.querySelectorAll("main [data-board]")) {
      element.hidden = !open.has(element.dataset.board);
      if (element.tagName === "TBODY" && !element.hidden) {
        const rows = element.querySelectorAll("tr[data-label]:not([hidden])").length;
        element.hidden = rows === 0;
        count += rows;
      }
    }
    for (const row of document.querySelectorAll("#help tbody tr")) {
      row.hidden ||= !row.querySelector("[data-board]:not([hidden])");
    }
    document.getElementById("count").value = `${count} row${count === 1 ? "" : "s"}`;
    document.getElementById("nothing").hidden = count > 0;
    outdate();
  }
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  // The values are back after the event.
  filters.addEventListener("reset", () => setTimeout(filter));
  // Nor is there an event when a browser that goes back puts them in again.
  addEventListener("pageshow", filter);

  // What is linked to may be in a part that is folded up.
  function unfold() {
    const target = document.getElementById(location.hash.slice(1));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", unfold);

  // --- plots ----------------------------------------------------------------------------------------------------------
  const KINDS = {
    curve: { x: "step", y: "iqm", title: "environment steps", format: "~s" },
    time: { x: "seconds", y: "iqm", title: "of training", format: "" },
    profile: { x: "threshold", y: "share", title: "return", format: "~s", shape: "hv" },
    normalised: { x: "threshold", y: "share", title: "normalised return", format: "" },
  };

  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const number = (value, digits = 4) => value.toLocaleString("en", { maximumSignificantDigits: digits });
  const faded = (colour, alpha) => colour + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const pen = document.createElement("canvas").getContext("2d");

  // A label and its score in lines that are not wider than so many pixels, broken where a part of the label ends.
  function lines(label, score, width, family) {
    pen.font = `bold 12px ${family}`;
    const found = [""];
    for (const part of [...label.matchAll(/.+?(?:[ ,=_[]+|$)/g)].map((match) => match[0]).concat(`  ${score}`)) {
      if (found.at(-1) && pen.measureText(found.at(-1) + part).width > width) found.push("");
      found[found.length - 1] += found.at(-1) ? part : part.trimStart();
    }
    return found;
  }

  function unit(rows) {
    const longest = Math.max(...rows.map((row) => row.time.seconds.at(-1)));
    return longest > 2 * 3600 ? [3600, "hours"] : longest > 120 ? [60, "minutes"] : [1, "seconds"];
  }

  function draw(plot) {
    const board = boards[plot.closest(".board").dataset.board];
    const rows = board.filter((row) => shown.has(row.label));
    const few = rows.length <= TOGETHER;
    plot.closest(".figures").classList.toggle("few", few);
    if (!rows.length) {
      Plotly.purge(plot);
      plot.textContent = "No algorithm is shown.";
      return;
    }
    if (!plot.data) plot.textContent = "";
    const { x, y, title, format, shape } = KINDS[plot.dataset.kind];
    const kind = plot.dataset.kind === "normalised" ? "profile" : plot.dataset.kind;
    const [divisor, name] = kind === "time" ? unit(board) : [1, ""];
    const text = themed("--text"), muted = themed("--muted"), grid = themed("--grid"), others = themed("--line");
    const colourOf = (row) => styles[row.label].colour === "#000000" ? text : styles[row.label].colour;
    const along = (row) => row[kind][x].map((value) => value / divisor);
    const percent = y === "share";
    const told = (value) => percent ? `${Math.round(100 * value)} %` : number(value);
    const position = (value) => kind === "curve" ? `${number(value, 6)} steps` : kind === "time" ? `${number(value, 3)} ${name}` : `above ${number(value)}`;
    const hover = (row) => row[kind][y].map((value, point) => {
      const { low, high } = row[kind];
      const ends = low[point] === null ? "" : ` [${told(low[point])}, ${told(high[point])}]`;
      return `<b>${escaped(row.label)}</b> ${told(value)}${ends}<br>${position(row[kind][x][point] / divisor)}`;
    });
    const line = (row, panel, options) => ({
      type: "scatter", mode: "lines", x: along(row), y: row[kind][y], xaxis: `x${panel}`, yaxis: `y${panel}`,
      name: escaped(styles[row.label].name), showlegend: false, hoverinfo: "skip", ...options,
    });
    const band = (row, panel) => row[kind].low[0] === null ? [] : ["low", "high"].map((end) => ({
      ...line(row, panel), y: row[kind][end], legendgroup: row.label, line: { width: 0, shape, color: colourOf(row) },
      ...(end === "high" ? { fill: "tonexty", fillcolor: faded(toHex(colourOf(row)), 0.16) } : {}),
    }));
    const main = (row, panel, options) => line(row, panel, {
      legendgroup: row.label, hoverinfo: "text", hovertext: hover(row),
      line: { width: 2.2, shape, color: colourOf(row), ...options.line }, ...options.trace,
    });

    const traces = [], annotations = [], axes = {};
    const width = plot.clientWidth;
    const nRows = few ? 1 : Math.ceil(rows.length / Math.max(2, Math.min(6, Math.floor(width / 185))));
    const columns = few ? 1 : Math.ceil(rows.length / nRows);
    const family = getComputedStyle(document.body).fontFamily, between = 26;
    const names = few ? [] : rows.map((row) => lines(row.label, row.score, (width - 60 - (columns - 1) * between) / columns, family));
    const above = 15 * Math.max(1, ...names.map((name) => name.length));
    // The buttons, which show under the pointer, have a line of their own above the names.
    const margin = { l: 52, r: 14, t: few ? 30 : above + (fingers.matches ? 7 : 31), b: 44 };
    // Of a short last row there are ticks above it.
    const panelHeight = few ? 300 : 118, gap = few ? 0 : above + (rows.length % columns ? 22 : 11);
    const height = margin.t + margin.b + nRows * panelHeight + (nRows - 1) * gap;
    const across = width - margin.l - margin.r, down = height - margin.t - margin.b;
    const panelWidth = (across - (columns - 1) * between) / columns;
    const ends = [Math.min(...board.map((row) => along(row)[0])), Math.max(...board.map((row) => along(row).at(-1)))];
    const lasts = board.map((row) => along(row).at(-1));
    // Times that are far apart.
    const logarithmic = kind === "time" && Math.max(...lasts) > 10 * Math.min(...lasts);
    const range = percent ? ends : logarithmic ? ends.map(Math.log10) : [0, ends[1]];
    // One wide band would make all curves flat.
    const values = rows.flatMap((row) => [...row[kind][y], row[kind].low.at(-1), row[kind].high.at(-1)]).filter((value) => value !== null);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const room = 0.06 * (most - least) || 1;
    const heights = percent ? [-0.03, 1.05] : [least - room, most + room];
    const axis = { color: muted, gridcolor: grid, linecolor: others, zeroline: false, ticks: "outside", tickcolor: others, ticklen: 4, tickfont: { size: 11 }, fixedrange: fingers.matches };

    for (let index = 0; index < (few ? 1 : rows.length); index++) {
      const panel = index ? index + 1 : "";
      const column = index % columns, row = Math.floor(index / columns);
      const left = column * (panelWidth + between) / across, top = 1 - row * (panelHeight + gap) / down;
      const lowest = index + columns >= (few ? 1 : rows.length);
      axes[`xaxis${panel}`] = {
        ...axis, anchor: `y${panel}`, domain: [left, Math.min(1, left + panelWidth / across)], range, tickformat: format, ...(logarithmic ? { type: "log", dtick: 1 } : { type: "linear", nticks: few ? 8 : 4 }),
        showticklabels: lowest, ...(panel ? { matches: "x" } : {}),
        title: few || (lowest && column === 0) ? { text: kind === "time" ? `${name} ${title}` : title, font: { size: 12 }, standoff: 6 } : undefined,
      };
      axes[`yaxis${panel}`] = {
        ...axis, anchor: `x${panel}`, domain: [Math.max(0, top - panelHeight / down), top], nticks: few ? 7 : 4,
        showticklabels: column === 0, range: heights, tickformat: percent ? ".0%" : "", ...(panel ? { matches: "y" } : {}),
      };
      if (few) {
        for (const each of rows) traces.push(...band(each, panel));
        for (const each of rows) traces.push(main(each, panel, { line: { dash: styles[each.label].dash }, trace: { showlegend: true } }));
      } else {
        for (const other of rows) if (other !== rows[index]) traces.push(line(other, panel, { line: { width: 0.8, shape, color: others } }));
        traces.push(...band(rows[index], panel), main(rows[index], panel, {}));
        annotations.push({
          text: names[index].map((line) => `<b>${escaped(line)}</b>`).join("<br>"), align: "left", showarrow: false, xref: "paper", yref: "paper",
          x: left, y: top, xanchor: "left", yanchor: "bottom", font: { size: 12, color: text },
        });
      }
    }
    const layout = {
      ...axes, annotations, height, width, margin, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
      font: { family, color: text },
      legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 12 } }, showlegend: few,
      modebar: { bgcolor: "transparent", color: others, activecolor: muted },
      hovermode: "closest", hoverlabel: { bgcolor: themed("--raised"), bordercolor: others, font: { color: text, size: 12 } },
      hoverdistance: 40, dragmode: fingers.matches ? false : "zoom", uirevision: "keep",
    };
    const config = { displaylogo: false, showSendToCloud: false, displayModeBar: fingers.matches ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "svg", filename: plot.id } };
    Plotly.react(plot, traces, layout, config);
  }

  // A theme's colours may be short or long.
  const toHex = (colour) => colour.length === 4 ? `#${[...colour.slice(1)].map((digit) => digit + digit).join("")}` : colour;

  // Only what is in view is drawn, and only when something has changed.
  const stale = new Set(), inView = new Set();
  let waiting = false;

  function outdate() {
    for (const plot of plots) stale.add(plot);
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(refresh);
    }
  }
  function refresh() {
    waiting = false;
    for (const plot of plots) {
      if (stale.has(plot) && inView.has(plot) && plot.clientWidth) {
        draw(plot);
        stale.delete(plot);
      }
    }
  }
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) inView.add(target);
      else inView.delete(target);
    }
    refresh();
  }, { rootMargin: "400px" });
  for (const plot of plots) watcher.observe(plot);

  let lastWidth = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== lastWidth) {
      lastWidth = document.body.clientWidth;
      outdate();
    }
  }).observe(document.body);
  darkMode.addEventListener("change", outdate);
  addEventListener("beforeprint", () => {
    for (const plot of plots) inView.add(plot);
    refresh();
  });
  filter();
  if (location.hash) unfold();
})();
