// Where everything of the picture goes: from who follows whom and the width there is to boxes and lines. Nothing is drawn.

const CARD = { width: 200, height: 92 };
const GAP = { x: 72, y: 18 };
const INDENT = 22;
const GUTTER = 30;
const BAR = 44;

/** Who stands below whom. Who follows nobody now stays where it was seen last, by a line that is `lost`. */
export function family(topology, followed) {
  const { nodes, verdict } = topology;
  const names = Object.keys(nodes);
  const parents = new Map();
  for (const name of names) {
    const node = nodes[name];
    const parent = node.follows ?? (node.role === "primary" || node.fenced ? null : (followed.get(name) ?? null));
    if (parent !== null && parent in nodes && !leadsTo(parents, parent, name)) parents.set(name, parent);
  }
  const below = new Map(names.map((name) => [name, []]));
  for (const [name, parent] of parents) below.get(parent).push(name);
  const weight = (name) => (name === verdict.node ? 0 : nodes[name].role === "primary" ? 1 : 2) - below.get(name).length / 1000;
  const roots = names.filter((name) => !parents.has(name)).sort((a, b) => weight(a) - weight(b));
  const lines = [...parents].map(([to, from]) => ({ from, to, lost: nodes[to].follows !== from }));
  const order = [];
  const visit = (name) => order.push(name) && below.get(name).forEach(visit);
  roots.forEach(visit);
  return { roots, below, lines, order };
}

function leadsTo(parents, from, to) {
  for (let at = from; at !== undefined; at = parents.get(at)) if (at === to) return true;
  return false;
}

/** Boxes by node, lines with their paths, the gateway's bar, the height of all. */
export function layout({ roots, below, lines }, width, hasGateway) {
  const depth = (name) => 1 + Math.max(0, ...below.get(name).map(depth));
  const columns = Math.max(1, ...roots.map(depth));
  const sides = hasGateway ? 2 * GUTTER : 0;
  const needed = columns * CARD.width + (columns - 1) * GAP.x + sides;
  const boxes = new Map();
  let kind = "columns";
  if (lines.length === 0 && width >= 2 * CARD.width + GAP.y) {
    kind = "grid";
    placeInGrid(roots, width, boxes);
  } else if (needed <= width) {
    let next = 0;
    for (const root of roots) next = placeInColumns(root, 0, next, below, hasGateway ? GUTTER : 0, boxes);
  } else {
    kind = "list";
    let next = 0;
    for (const root of roots) next = placeInList(root, 0, next, below, width, boxes);
  }
  const bottom = Math.max(0, ...[...boxes.values()].map((box) => box.y + box.height));
  const bar = hasGateway ? { x: 0, y: bottom + 26, width: kind === "columns" ? Math.min(width, needed) : width, height: BAR } : null;
  return {
    boxes,
    bar,
    height: bar ? bar.y + bar.height : bottom,
    lines: lines.map((line) => ({ ...line, path: follows(boxes.get(line.from), boxes.get(line.to), kind) })),
    taps: bar && kind === "columns" ? [...boxes].map(([to, box]) => ({ to, path: tap(box, bar) })) : [],
  };
}

function placeInGrid(names, width, boxes) {
  const across = Math.floor((width + GAP.y) / (CARD.width + GAP.y));
  names.forEach((name, index) => {
    const x = (index % across) * (CARD.width + GAP.y);
    const y = Math.floor(index / across) * (CARD.height + GAP.y);
    boxes.set(name, { x, y, ...CARD, column: 0 });
  });
}

/** Who has followers stands beside the middle of them. Returns the next free row. */
function placeInColumns(name, column, row, below, left, boxes) {
  let next = row;
  for (const child of below.get(name)) next = placeInColumns(child, column + 1, next, below, left, boxes);
  const rows = below.get(name).map((child) => boxes.get(child).row);
  const own = rows.length ? (rows[0] + rows.at(-1)) / 2 : row;
  const box = { x: left + column * (CARD.width + GAP.x), y: own * (CARD.height + GAP.y), ...CARD };
  boxes.set(name, { ...box, row: own, column });
  return Math.max(next, row + 1);
}

/** One below the other, those who follow further to the right: what fits on a phone. */
function placeInList(name, level, row, below, width, boxes) {
  const x = Math.min(level, 4) * INDENT;
  boxes.set(name, { x, y: row * (CARD.height + GAP.y), width: width - x, height: CARD.height, column: level });
  let next = row + 1;
  for (const child of below.get(name)) next = placeInList(child, level + 1, next, below, width, boxes);
  return next;
}

function follows(from, to, kind) {
  const y = to.y + to.height / 2;
  if (kind === "list") return `M${from.x + INDENT / 2} ${from.y + from.height}V${y}H${to.x - 3}`;
  const [x1, y1, x2] = [from.x + from.width, from.y + from.height / 2, to.x - 4];
  const bend = (x2 - x1) / 2;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y} ${x2} ${y}`;
}

/** From the gateway's bar along the side of a column, into its cards. */
function tap(box, bar) {
  const left = box.column === 0;
  const x = left ? box.x - GUTTER / 2 : box.x + box.width + GUTTER / 2;
  const y = box.y + box.height * 0.75;
  return `M${x} ${bar.y}V${y}H${left ? box.x - 4 : box.x + box.width + 4}`;
}
