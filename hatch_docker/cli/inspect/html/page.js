"use strict";
(() => {
  // A node: n is the name, s the size in bytes, k the kind, f the number of files, c the child nodes, d the directory
  // of a package's files, i the index of a layer or package (see page.py). p, the full path, is set here.
  const root = JSON.parse(document.getElementById("data").textContent);
  const map = document.getElementById("map");
  const crumbs = document.getElementById("crumbs");
  const detail = document.getElementById("detail");
  const status = document.getElementById("status");
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  const HEAD = 22;            // height of a tile's label above its inner tiles, in pixels
  const LEAST_SIDE = 3;       // pixels; smaller inner tiles are not drawn
  const LEAST_SHARE = 0.004;  // smallest drawn share of a tile, for up to 60 tiles
  let path = [root];   // nodes from the image to the current node
  let tiles = [];      // {node, x, y, w, h, element} of the current node's children
  let lastFocused = new Map();  // node -> its child that last had the focus

  (function setPaths(node, directory) {
    for (const child of node.c || []) {
      if (directory && !child.d && (child.c || !child.f)) child.p = directory + child.n;
      setPaths(child, child.d || (child.c && child.p));
    }
  })(root);

  const current = () => path[path.length - 1];

  function formatSize(bytes) {
    const [value, unit] = bytes >= 1e9 ? [bytes / 1e9, "GB"] : bytes >= 1e6 ? [bytes / 1e6, "MB"]
      : bytes >= 1e3 ? [bytes / 1e3, "kB"] : [bytes, bytes === 1 ? "byte" : "bytes"];
    return `${bytes < 1e3 ? value : value.toPrecision(3).replace(/e\+3$/, "").replace(/^1\.00e3/, "1000")} ${unit}`;
  }

  function share(part, whole) {
    const percent = whole ? 100 * part / whole : 0;
    if (part && percent < 0.05) return "<0.1 %";
    return `${percent >= 10 ? percent.toFixed(0) : percent.toFixed(1)} %`;
  }

  function describe(node, parent) {
    const files = node.f > 1 ? `, ${node.f} files` : "";
    const of = parent && parent !== node ? `, ${share(node.s, parent.s)} of ${parent.n}` : "";
    return `${node.p || node.n}, ${formatSize(node.s)}${files}${of}`;
  }

  // Squarified treemap (Bruls, Huizing, van Wijk 2000): rows along the shorter side, with nearly square tiles.
  function squarify(nodes, x, y, w, h) {
    const placed = [];
    const whole = nodes.reduce((sum, node) => sum + node.s, 0);
    const least = nodes.length > 60 ? 0 : LEAST_SHARE * whole;
    const weight = node => Math.max(node.s, least);
    let left = nodes.reduce((sum, node) => sum + weight(node), 0);
    let at = 0;
    while (at < nodes.length && left > 0 && w > 0 && h > 0) {
      const side = Math.min(w, h);
      const scale = w * h / left;
      let row = 0, count = 0, worst = Infinity;
      while (at + count < nodes.length) {
        const sum = row + weight(nodes[at + count]);
        const thick = sum * scale / side;
        const ratio = Math.max(weight(nodes[at]) * scale / thick / thick, thick * thick / (weight(nodes[at + count]) * scale));
        if (count && ratio > worst) break;
        worst = ratio; row = sum; count += 1;
      }
      const thick = row * scale / side;
      let offset = 0;
      for (const node of nodes.slice(at, at + count)) {
        const length = weight(node) / row * side;
        placed.push(w >= h ? {node, x, y: y + offset, w: thick, h: length} : {node, x: x + offset, y, w: length, h: thick});
        offset += length;
      }
      if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
      left -= row; at += count;
    }
    return placed;
  }

  function box(place, kind) {
    const element = document.createElement("div");
    element.className = `tile k-${place.node.k || kind}`;
    for (const [name, value] of [["left", place.x], ["top", place.y], ["width", place.w], ["height", place.h]])
      element.style[name] = `${value.toFixed(1)}px`;
    return element;
  }

  function label(element, tag, node, place, size) {
    if (place.w < 34 || place.h < (tag === "b" ? 20 : 15)) return;
    const line = document.createElement(tag);
    line.textContent = node.n;
    if (size && place.w > 150) line.append(Object.assign(document.createElement("small"), {textContent: formatSize(node.s)}));
    element.append(line);
  }

  function fill(element, node, place) {
    const inner = {x: 2, y: HEAD, w: place.w - 6, h: place.h - HEAD - 4};
    if (!node.c || inner.w < 24 || inner.h < 16) return;
    for (const child of squarify(node.c, inner.x, inner.y, inner.w, inner.h)) {
      if (child.w < LEAST_SIDE || child.h < LEAST_SIDE) continue;
      const small = box(child, node.k);
      small.setAttribute("aria-hidden", "true");
      small.node = child.node;
      label(small, "i", child.node, child, false);
      element.append(small);
    }
  }

  function render(focus) {
    const node = current();
    const stage = document.createElement("div");
    stage.className = "stage";
    stage.setAttribute("role", "presentation");
    const kind = path.map(step => step.k).filter(Boolean).pop();
    tiles = squarify(node.c, 0, 0, map.clientWidth, map.clientHeight).filter(place => place.w >= 1 && place.h >= 1);
    tiles.forEach((place, index) => {
      const element = place.element = box(place, kind);
      const more = Boolean(place.node.c);
      element.node = place.node;
      element.tabIndex = -1;
      element.classList.toggle("more", more);
      element.setAttribute("role", "treeitem");
      element.setAttribute("aria-level", path.length);
      element.setAttribute("aria-posinset", index + 1);
      element.setAttribute("aria-setsize", tiles.length);
      if (more) element.setAttribute("aria-expanded", "false");
      element.setAttribute("aria-label", describe(place.node, node));
      label(element, "b", place.node, place, true);
      fill(element, place.node, place);
      stage.append(element);
    });
    map.replaceChildren(stage);
    const first = tiles.find(place => place.node === lastFocused.get(node)) || tiles[0];
    if (first) {
      first.element.tabIndex = 0;
      if (focus) first.element.focus({preventScroll: true});
    }
    detail.textContent = describe(node, path[path.length - 2]);
    showPath();
    return stage;
  }

  function showPath() {
    crumbs.replaceChildren(...path.map((node, depth) => {
      const item = document.createElement("li");
      const last = depth === path.length - 1;
      const inner = item.appendChild(document.createElement(last ? "span" : "button"));
      inner.textContent = node.n;
      if (last) inner.setAttribute("aria-current", "location");
      else inner.addEventListener("click", () => leave(path.length - 1 - depth));
      return item;
    }));
  }

  function announce() {
    status.textContent = `${describe(current(), path[path.length - 2])}; ${tiles.length} tiles`;
  }

  function animate(stage, place, inward) {
    if (reducedMotion.matches || !place) return;
    const w = map.clientWidth, h = map.clientHeight;
    const small = `translate(${place.x}px, ${place.y}px) scale(${place.w / w}, ${place.h / h})`;
    const large = `scale(${w / place.w}, ${h / place.h}) translate(${-place.x}px, ${-place.y}px)`;
    stage.animate([{transform: inward ? small : large, opacity: 0.2}, {transform: "none", opacity: 1}],
      {duration: 180, easing: "ease-out"});
  }

  function enter(node) {
    if (!node.c) return;
    const place = tiles.find(tile => tile.node === node);
    lastFocused.set(current(), node);
    path.push(node);
    animate(render(true), place, true);
    announce();
  }

  function leave(steps = 1) {
    if (path.length === 1) return;
    const left = path[Math.max(1, path.length - steps)];
    path = path.slice(0, Math.max(1, path.length - steps));
    lastFocused.set(current(), left);
    const stage = render(true);
    animate(stage, tiles.find(tile => tile.node === left), false);
    announce();
  }

  function show(nodes) {
    path = [root, ...nodes];
    render(true);
    announce();
    document.getElementById("map-section").scrollIntoView({block: "start", behavior: reducedMotion.matches ? "auto" : "smooth"});
  }

  // Returns the nearest tile in the direction of an arrow key; tiles in the same row or column are preferred.
  function neighbour(place, key) {
    const across = key === "ArrowLeft" || key === "ArrowRight";
    const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    const span = tile => across ? [tile.x, tile.x + tile.w, tile.y, tile.y + tile.h] : [tile.y, tile.y + tile.h, tile.x, tile.x + tile.w];
    const [low, high, near, far] = span(place);
    let best = null, least = Infinity;
    for (const tile of tiles) {
      const [l, h, n, f] = span(tile);
      const gap = sign > 0 ? l - high : low - h;
      if (tile === place || gap < -1) continue;
      const aside = Math.max(0, n - far, near - f);
      const cost = gap + 3 * aside + Math.abs(n + f - near - far) / 1000;
      if (cost < least) { best = tile; least = cost; }
    }
    return best;
  }

  map.addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const place = tiles.find(tile => tile.element === document.activeElement);
    if (!place) return;
    let next = null;
    if (event.key.startsWith("Arrow")) next = neighbour(place, event.key);
    else if (event.key === "Home") next = tiles[0];
    else if (event.key === "End") next = tiles[tiles.length - 1];
    else if (event.key === "Enter" || event.key === " ") enter(place.node);
    else if (event.key === "Escape" || event.key === "Backspace") leave();
    else return;
    event.preventDefault();
    if (next) next.element.focus({preventScroll: true});
  });
  map.addEventListener("focusin", event => {
    const place = tiles.find(tile => tile.element === event.target);
    if (!place) return;
    tiles.forEach(tile => { tile.element.tabIndex = tile === place ? 0 : -1; });
    lastFocused.set(current(), place.node);
    detail.textContent = describe(place.node, current());
  });
  map.addEventListener("click", event => {
    const place = tiles.find(tile => tile.element.contains(event.target));
    if (place) enter(place.node);
  });
  map.addEventListener("pointermove", event => {
    const element = event.target.closest(".tile");
    if (!element) return;
    const parent = element.parentElement.closest(".tile");
    detail.textContent = describe(element.node, parent ? parent.node : current());
  });

  // Tables: column titles sort, the search field filters the packages, the name of a package shows it in the map.
  for (const table of document.querySelectorAll("table.sorts")) {
    const body = table.tBodies[0];
    for (const head of table.querySelectorAll("th[aria-sort]")) head.addEventListener("click", () => {
      const column = head.cellIndex;
      const up = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === "none" && !head.classList.contains("n"));
      for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const order = (a, b) => head.classList.contains("n") ? key(a) - key(b) : key(a).localeCompare(key(b), "en");
      body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
    });
  }
  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.querySelectorAll("#packages tbody tr")];
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = [0, 1, 2].map(column => row.cells[column].textContent).join(" ").toLowerCase();  // name, version, of
        row.hidden = !words.every(word => text.includes(word));
      }
      document.getElementById("found").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
    });
  }
  document.addEventListener("click", event => {
    const button = event.target.closest("button[data-at]");
    if (!button) return;
    const [layer, group] = button.dataset.at.split(" ").map(Number);
    const node = root.c.find(child => child.i === layer);
    const inner = node && node.c ? node.c.find(child => child.i === group) : null;
    if (node) show(inner && inner.c ? [node, inner] : [node]);
  });

  for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;
  if (root.c.length) {
    document.getElementById("map-section").hidden = false;
    const size = () => `${map.clientWidth} ${map.clientHeight}`;
    let drawn = size();
    new ResizeObserver(() => {
      if (size() === drawn) return;
      drawn = size();
      render(map.contains(document.activeElement));
    }).observe(map);
    render(false);
  }
})();
