// What the page can do beyond being read: colours, filter, sorting, hovering. All that it shows
// stands in the page already.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);

  // Colours: kept for the next visit where the browser lets a file keep something.
  const colours = one("#colours");
  const remembered = (store) => {
    try { return store(window.localStorage); } catch { return null; }
  };
  const paint = () => { document.documentElement.dataset.colours = colours.value; };
  colours.value = remembered((store) => store.getItem("colours")) || "";
  paint();
  colours.addEventListener("change", () => {
    paint();
    remembered((store) => store.setItem("colours", colours.value));
  });

  // A row is about whom it begins with.
  for (const row of all("main tbody tr")) {
    row.dataset.architecture = row.cells[0].textContent.replace(/ \(peer\)$/, "");
  }

  // Filter: what belongs to a workload or an architecture that is not chosen is hidden.
  const boxes = (kind) => all(`[data-filter="${kind}"] input`);
  const filter = () => {
    const words = [];
    for (const [kind, many] of [["workload", "workloads"], ["architecture", "servers"]]) {
      const known = boxes(kind);
      const hidden = new Set(known.filter((box) => !box.checked).map((box) => box.value));
      for (const element of all(`[data-${kind}]`)) {
        element.toggleAttribute("hidden", hidden.has(element.dataset[kind]));
      }
      if (hidden.size > 0) words.push(`${known.length - hidden.size} of ${known.length} ${many}`);
    }
    one("#shown").textContent = words.join(", ");
  };
  one("#controls").addEventListener("change", filter);
  for (const button of all("[data-check]")) {
    button.addEventListener("click", () => {
      const within = button.closest("fieldset");
      all("input", within).forEach((box) => { box.checked = button.dataset.check !== ""; });
      filter();
    });
  }
  one("#controls").hidden = false;

  // Sorting: numbers by what they are, words by the alphabet, what is no number last.
  const sort = (heading, column) => {
    const table = heading.closest("table");
    const descends = heading.getAttribute("aria-sort") === "ascending";
    all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descends ? "descending" : "ascending");
    const isNumeric = column > 0 && !heading.classList.contains("text");
    const sign = descends ? -1 : 1;
    const key = (row) => {
      const text = row.cells[column].textContent;
      return isNumeric ? parseFloat(text.replace(/^[≥≤<> ]+|,/g, "")) : text;
    };
    const order = (a, b) => {
      if (!isNumeric) return sign * a.key.localeCompare(b.key, "en");
      return isNaN(a.key) - isNaN(b.key) || sign * (a.key - b.key) || 0;
    };
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row) }));
    table.tBodies[0].append(...rows.sort(order).map(({ row }) => row));
  };
  for (const heading of all("table.data thead th:not(.chart)")) {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    const column = heading.cellIndex;
    button.addEventListener("click", () => sort(heading, column));
  }

  // Hovering: titles at once instead of after a while.
  const tip = one("#tip");
  const place = (x, y) => {
    const { width, height } = tip.getBoundingClientRect();
    const beside = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
    const below = y + 16 + height > innerHeight ? y - 16 - height : y + 16;
    tip.style.left = `${Math.max(4, beside)}px`;
    tip.style.top = `${Math.max(4, below)}px`;
  };
  for (const cell of all("td[title]")) {
    cell.dataset.tip = cell.title;
    cell.removeAttribute("title");
  }
  for (const title of all("svg.bar > title")) {
    title.parentElement.dataset.tip = title.textContent;
    title.remove();
  }
  document.addEventListener("pointermove", (event) => {
    if (event.target.closest(".curves")) return;
    const told = event.target.closest("[data-tip]");
    tip.hidden = !told;
    if (!told) return;
    tip.textContent = told.dataset.tip;
    place(event.clientX, event.clientY);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
  });

  // Curves: the one below the pointer stands out, and all are read at its percentile.
  const pick = (within, name) => {
    for (const curves of all(".curves", within)) curves.classList.toggle("picking", !!name);
    for (const element of all(".curve, .data tr", within)) {
      element.classList.toggle("picked", !!name && element.dataset.architecture === name);
    }
  };
  for (const section of all("section.workload")) {
    section.addEventListener("pointerover", (event) => {
      const within = event.target.closest(".curve, .data tbody tr");
      pick(section, within ? within.dataset.architecture : "");
    });
    section.addEventListener("pointerleave", () => pick(section, ""));
  }
  const height = (curve, index) => {
    const points = one(".line", curve).getAttribute("d").split(/[ML]/).slice(1);
    return points[index] ? Number(points[index].split(" ")[1]) : NaN;
  };
  const nearest = (svg, index, y) => {
    const away = (curve) => Math.abs(height(curve, index) - y);
    const near = all(".curve:not([hidden])", svg).filter((curve) => away(curve) <= 8);
    return near.sort((a, b) => away(a) - away(b))[0];
  };
  const read = (svg, index, x, y) => {
    const places = svg.dataset.places.split("|").map(Number);
    const cursor = one(".cursor", svg);
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("transform", `translate(${places[index]} 0)`);
    const table = document.createElement("table");
    table.createCaption().textContent = `percentile ${svg.dataset.percents.split("|")[index]}`;
    const values = all(".curve:not([hidden])", svg).map((curve) => ({
      curve,
      text: curve.dataset.values.split("|")[index],
    }));
    const known = values
      .filter(({ text }) => text)
      .map(({ curve, text }) => ({ curve, text, height: height(curve, index) }))
      .sort((a, b) => a.height - b.height);
    for (const { curve, text } of known) {
      const row = table.insertRow();
      row.className = curve.classList.contains("picked") ? "picked" : "";
      row.insertCell().textContent = one("text", curve).textContent;
      row.insertCell().textContent = text;
    }
    tip.replaceChildren(table);
    tip.hidden = false;
    svg.dataset.index = index;
    place(x, y);
  };
  const leave = (svg) => {
    one(".cursor", svg).setAttribute("visibility", "hidden");
    tip.hidden = true;
  };
  for (const svg of all(".curves")) {
    const places = svg.dataset.places.split("|").map(Number);
    const longest = Math.max(
      ...all(".curve", svg).map((curve) => curve.dataset.values.split("|").length),
    );
    svg.addEventListener("pointermove", (event) => {
      const inverse = svg.getScreenCTM().inverse();
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
      const distance = (index) => Math.abs(places[index] - x);
      let at = 0;
      for (let index = 1; index < longest; index += 1) {
        if (distance(index) < distance(at)) at = index;
      }
      const label = event.target.closest(".curve");
      const curve = label || nearest(svg, at, y);
      pick(svg.closest("section"), curve ? curve.dataset.architecture : "");
      read(svg, at, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", () => leave(svg));
    svg.addEventListener("blur", () => leave(svg));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const index = Math.min(longest - 1, Math.max(0, Number(svg.dataset.index || 0) + step));
      const at = new DOMPoint(places[index], 40).matrixTransform(svg.getScreenCTM());
      read(svg, index, at.x, at.y);
    });
  }
})();
