// What moves on the page: the charts, the switches, the theme, and what is copied or saved.
// Text goes into the document as text; nothing is fetched, and without this script all tables still stand.
"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("bench-data").textContent);
  const views = new Map();
  const state = { views, hidden: [], ready: false, errors: [] };
  window.benchCharts = state;
  root.classList.add("scripted");

  // Charts: each is drawn once, and follows the width of its box by itself
  const columnsOf = (dataset) =>
    dataset.columns.map((column) => (column.texts ? column.at.map((place) => column.texts[place]) : column));
  const rowsOf = (dataset) => {
    const columns = columnsOf(dataset);
    const row = (i) => Object.fromEntries(dataset.fields.map((field, c) => [field, columns[c][i]]));
    return Array.from({ length: dataset.rows }, (_, i) => row(i));
  };

  const draw = async (kind, figure) => {
    const box = document.getElementById(`chart-${kind}`);
    const datasets = {};
    for (const [name, dataset] of Object.entries(figure.datasets)) datasets[name] = rowsOf(dataset);
    const spec = { ...figure.chart, datasets: { ...datasets, ...figure.chart.datasets } };
    try {
      const made = await window.vegaEmbed(box, spec, {
        mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, logLevel: 1,
        bind: document.getElementById(`choices-${kind}`),
        config: { ...data.config, aria: false }, tooltip: { disableDefaultStyle: true },
      });
      views.set(kind, made.view);
      await hideIn(made.view);
      box.dataset.state = "rendered";
    } catch (error) {
      state.errors.push(`${kind}: ${error}`);
      box.dataset.state = "failed";
      box.textContent = `The chart could not be drawn (${error}); its numbers are in the table.`;
    }
  };
  const drawAll = async () => {
    for (const [kind, figure] of Object.entries(data.figures)) {
      if (figure.chart && document.getElementById(`chart-${kind}`)) {
        await draw(kind, figure);
        await new Promise((resume) => setTimeout(resume)); // the page answers between two charts
      }
    }
    state.ready = true;
    root.dataset.charts = "ready";
  };

  // Switches
  const hideIn = async (view) => {
    const known = "hidden" in view.getState({ signals: (name) => name === "hidden", data: () => false }).signals;
    if (known) await view.signal("hidden", state.hidden).runAsync();
  };
  const switches = [...document.querySelectorAll("#switches input")];
  const applySwitches = async () => {
    const off = switches.filter((box) => !box.checked).map((box) => Number(box.dataset.index));
    state.hidden = off.map((index) => data.systems[index]);
    for (const element of document.querySelectorAll("[data-system]")) {
      element.hidden = off.includes(Number(element.dataset.system));
    }
    await Promise.all([...views.values()].map(hideIn));
    root.dataset.hidden = off.join(" ");
  };
  for (const box of switches) box.addEventListener("change", applySwitches);
  // The switches stay in sight; what is jumped to comes to stand below them.
  const bar = document.getElementById("switches");
  if (bar) new ResizeObserver(() => root.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);

  // Theme
  const themeButton = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const label = () => {
    themeButton.textContent = isDark() ? "Light" : "Dark";
    themeButton.setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`);
  };
  themeButton.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  prefersDark.addEventListener("change", label);
  label();

  // What is copied or saved
  const said = document.getElementById("said");
  const save = (name, href) => {
    const link = document.createElement("a");
    link.download = name;
    link.href = href;
    link.click();
  };
  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    said.textContent = "Copied.";
  };
  const quoted = (cell) => {
    const text = cell === null ? "" : String(cell);
    // A text that a spreadsheet would take for a formula stays a text.
    const safe = typeof cell === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csvOf = (dataset) => {
    const kept = dataset.fields.map((_, c) => c).filter((c) => dataset.shown[c]);
    const columns = columnsOf(dataset);
    const lines = [kept.map((c) => dataset.headings[c])];
    for (let i = 0; i < dataset.rows; i += 1) lines.push(kept.map((c) => columns[c][i]));
    return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  };
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const kind = button.closest("figure")?.dataset.kind;
    const { copy: copied, save: saved, image, command } = button.dataset;
    if (command !== undefined) await copy(command, button);
    if (copied !== undefined) await copy(csvOf(data.figures[kind].datasets[copied]), button);
    if (saved !== undefined) {
      const blob = new Blob([csvOf(data.figures[kind].datasets[saved])], { type: "text/csv" });
      const url = URL.createObjectURL(blob);
      save(`${kind}-${saved}.csv`, url);
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    }
    if (image && views.has(kind)) {
      const view = views.get(kind).background("#ffffff");
      save(`${kind}.${image}`, await view.toImageURL(image, image === "png" ? 2 : 1));
      await view.background("transparent").runAsync();
    }
  });

  // On paper nothing can be unfolded.
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll('details[data-print="open"]:not([open])')) {
      part.open = true;
      part.dataset.opened = "";
    }
  });
  window.addEventListener("afterprint", () => {
    for (const part of document.querySelectorAll("details[data-opened]")) {
      part.open = false;
      delete part.dataset.opened;
    }
  });

  applySwitches();
  if (window.vegaEmbed) drawAll();
  else root.dataset.charts = "ready";
})();
