// Sorting, filtering and choosing a pair. Everything is on the page without it; this only rearranges.
"use strict";

for (const view of document.querySelectorAll(".models")) {
  const table = view.querySelector("table"), tools = view.querySelector(".tools");
  const flat = table.querySelector("tbody.flat"), bodies = [...table.querySelectorAll("tbody[data-group]")];
  const rows = [...table.querySelectorAll("tr[data-place]")], home = new Map(rows.map((row) => [row, row.parentElement]));
  const headers = [...table.querySelectorAll("thead th")];
  const search = tools.querySelector("input[type=search]"), output = tools.querySelector("output");
  const reset = tools.querySelector(".reset"), groups = [...tools.querySelectorAll(".groups input")];

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = new Set(groups.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const row of rows) {
      const text = row.cells[0].textContent.toLowerCase();
      row.hidden = (groups.length > 0 && !chosen.has(row.dataset.group)) || !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    for (const body of bodies) body.hidden = ![...body.querySelectorAll("tr[data-place]")].some((row) => !row.hidden);
    output.textContent = `${shown} of ${rows.length} models`;
  };

  const value = (row, column) => {
    const found = row.cells[column].dataset.value;
    if (column === 0) return found.toLowerCase();
    return found === undefined ? NaN : Number(found);
  };

  const sort = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const ordered = [...rows].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      const [lacksX, lacksY] = [Number.isNaN(x), Number.isNaN(y)];
      if (lacksX || lacksY) return lacksX - lacksY || a.dataset.place - b.dataset.place; // undefined stays last
      return x === y ? a.dataset.place - b.dataset.place : (x < y ? -sign : sign);
    });
    flat.append(...ordered);
    headers.forEach((header, i) => header.hasAttribute("aria-sort") && header.setAttribute("aria-sort", i === column ? direction : "none"));
    table.classList.add("sorted");
    reset.hidden = false;
    filter();
  };

  headers.forEach((header, column) => header.querySelector("button")?.addEventListener("click", () => {
    const now = header.getAttribute("aria-sort"), first = header.dataset.first;
    sort(column, now === first ? (first === "ascending" ? "descending" : "ascending") : first);
  }));
  reset.addEventListener("click", () => {
    for (const row of [...rows].sort((a, b) => a.dataset.place - b.dataset.place)) home.get(row).append(row);
    headers.forEach((header) => header.hasAttribute("aria-sort") && header.setAttribute("aria-sort", "none"));
    table.classList.remove("sorted");
    reset.hidden = true;
    filter();
    headers[0].querySelector("button").focus();
  });
  search.addEventListener("input", filter);
  for (const box of groups) box.addEventListener("change", filter);
  for (const box of tools.querySelectorAll(".shows input")) {
    const show = () => table.classList.toggle(`hide-${box.value}`, !box.checked);
    box.addEventListener("change", show);
    show();
  }
  filter();
  tools.hidden = false;
}

for (const picker of document.querySelectorAll(".picker")) {
  const data = JSON.parse(document.getElementById(picker.dataset.pairs).textContent);
  const [first, second] = picker.querySelectorAll("select"), body = picker.querySelector("tbody");
  for (const select of [first, second]) data.names.forEach((name, i) => select.add(new Option(name, i)));
  first.selectedIndex = data.first[0];
  second.selectedIndex = data.first[1];
  const signed = (x) => (x >= 0 ? "+" : "−") + Math.abs(x).toFixed(3);
  const chance = (p) => (p === null ? "undefined" : p < 0.001 ? p.toExponential(0) : p.toFixed(3));

  const show = () => {
    const [i, j] = [Number(first.value), Number(second.value)], turned = i > j;
    const found = data.pairs[turned ? `${j} ${i}` : `${i} ${j}`] ?? [];
    body.replaceChildren(...data.columns.map((column, k) => {
      const row = document.createElement("tr"), head = document.createElement("th");
      head.scope = "row";
      head.textContent = column;
      row.append(head);
      const values = found[k], interval = (low, high) => (turned ? [-high, -low] : [low, high]).map(signed).join(" to ");
      const texts = values
        ? [signed(turned ? -values[0] : values[0]), interval(values[1], values[2]), interval(values[3], values[4]), chance(values[5]), chance(values[6])]
        : [i === j ? "the same model" : "undefined", "", "", "", ""];
      for (const text of texts) row.insertCell().textContent = text;
      return row;
    }));
  };
  first.addEventListener("change", show);
  second.addEventListener("change", show);
  show();
  picker.hidden = false;
}

// Paper shows what is open on the screen.
const everything = document.querySelector(".everything"), folded = [...document.querySelectorAll("details")];
if (folded.length > 0) {
  const button = everything.querySelector("button"), closed = () => folded.some((details) => !details.open);
  const label = () => { button.textContent = closed() ? "Open everything" : "Close everything"; };
  button.addEventListener("click", () => {
    const open = closed();
    for (const details of folded) details.open = open;
  });
  for (const details of folded) details.addEventListener("toggle", label);
  everything.hidden = false;
}
