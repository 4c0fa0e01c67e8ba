// Pictures of products, drawn from a few parameters: nothing is fetched.

let drawn = 0;

/**
 * Gives the picture of an item as SVG text (120 × 120). An item without parameters of its own, as in a
 * real event log, gets a mark made of its id.
 */
export function picture(item) {
  const id = `p${(drawn += 1)}`;
  return item.art ? product(item.art, id) : mark(item.id, id);
}

/** The hue that an item's tile takes, in degrees. */
export function hueOf(item) {
  return item.art?.hue ?? hash(item.id) % 360;
}

function product(art, id) {
  const { hue, accent, saturation: s, lightness: l } = art;
  const c = {
    main: `hsl(${hue} ${s}% ${l}%)`,
    light: `hsl(${hue} ${s + 4}% ${Math.min(l + 16, 86)}%)`,
    dark: `hsl(${hue} ${s}% ${Math.max(l - 18, 14)}%)`,
    deep: `hsl(${hue} ${Math.round(s * 0.7)}% ${Math.max(l - 32, 11)}%)`,
    pale: `hsl(${hue} ${Math.round(s * 0.5)}% 90%)`,
    accent: `hsl(${accent} ${Math.min(s + 16, 88)}% 58%)`,
    accentDark: `hsl(${accent} ${Math.min(s + 10, 80)}% 42%)`,
    metal: '#b9bec6',
    metalDark: '#7d838d',
    ink: '#2b2d33',
    wood: '#b98a5a',
    woodDark: '#8d6540',
  };
  const { back = '', body, front = '', ground = 44 } = (SHAPES[art.glyph] ?? SHAPES.vase)(c, art.form);
  const paths = (fill) => body.map((d) => `<path d="${d}" fill="${fill}"/>`).join('');
  const surface = art.pattern === 'plain' ? '' : paths(`url(#${id}p)`);
  return `<svg viewBox="0 0 120 120" aria-hidden="true" focusable="false">
<defs>
<linearGradient id="${id}g" x1="0" y1="0" x2=".5" y2="1"><stop offset="0" stop-color="${c.light}"/><stop offset=".55" stop-color="${c.main}"/><stop offset="1" stop-color="${c.dark}"/></linearGradient>
<linearGradient id="${id}s" x1="0" y1="0" x2="1" y2=".12"><stop offset="0" stop-color="#fff" stop-opacity=".30"/><stop offset=".38" stop-color="#fff" stop-opacity="0"/><stop offset=".62" stop-color="#000" stop-opacity="0"/><stop offset="1" stop-color="#000" stop-opacity=".26"/></linearGradient>
${pattern(art.pattern, `${id}p`, c)}
</defs>
<ellipse cx="60" cy="104" rx="${ground}" ry="5" fill="#000" opacity=".13"/>
${back}${paths(`url(#${id}g)`)}${surface}${paths(`url(#${id}s)`)}${front}</svg>`;
}

function pattern(kind, id, c) {
  const tile = (size, inner, turn = 0) =>
    `<pattern id="${id}" width="${size}" height="${size}" patternUnits="userSpaceOnUse" patternTransform="rotate(${turn})">${inner}</pattern>`;
  switch (kind) {
    case 'stripes':
      return tile(12, `<rect width="4" height="12" fill="${c.pale}" opacity=".55"/>`, 12);
    case 'bands':
      return tile(34, `<rect y="16" width="34" height="9" fill="${c.accent}" opacity=".9"/><rect y="28" width="34" height="2.5" fill="${c.pale}" opacity=".8"/>`);
    case 'blocks':
      return tile(46, `<rect width="23" height="23" fill="${c.accent}" opacity=".75"/><rect x="23" y="23" width="23" height="23" fill="${c.dark}" opacity=".4"/>`);
    case 'dots':
      return tile(11, `<circle cx="5.5" cy="5.5" r="1.9" fill="${c.pale}" opacity=".8"/>`, 45);
    case 'leaves':
      return tile(17, `<path d="M3 13 C3 6 8 3 14 3 C14 9 10 13 3 13Z" fill="${c.dark}" opacity=".5"/>`);
    case 'zigzag':
      return tile(14, `<path d="M-2 9 L3.5 3 L10.5 10 L16 4" stroke="${c.accent}" stroke-width="2.2" fill="none" opacity=".95"/>`);
    case 'checks':
      return tile(14, `<rect width="7" height="14" fill="${c.dark}" opacity=".28"/><rect width="14" height="7" fill="${c.pale}" opacity=".38"/>`);
    default:
      return '';
  }
}

const line = (d, stroke, width = 2, more = '') =>
  `<path d="${d}" stroke="${stroke}" stroke-width="${width}" fill="none" stroke-linecap="round" stroke-linejoin="round" ${more}/>`;
const fill = (d, colour, more = '') => `<path d="${d}" fill="${colour}" ${more}/>`;
const round = (x, y, w, h, r, colour, more = '') =>
  `<rect x="${x}" y="${y}" width="${w}" height="${h}" rx="${r}" fill="${colour}" ${more}/>`;
const disc = (x, y, r, colour, more = '') => `<circle cx="${x}" cy="${y}" r="${r}" fill="${colour}" ${more}/>`;
/** A rounded box as a path, for bodies. */
const box = (x, y, w, h, r) =>
  `M${x + r} ${y} H${x + w - r} Q${x + w} ${y} ${x + w} ${y + r} V${y + h - r} Q${x + w} ${y + h} ${x + w - r} ${y + h} H${x + r} Q${x} ${y + h} ${x} ${y + h - r} V${y + r} Q${x} ${y} ${x + r} ${y} Z`;
const ball = (x, y, r) => `M${x - r} ${y} A${r} ${r} 0 1 1 ${x + r} ${y} A${r} ${r} 0 1 1 ${x - r} ${y} Z`;

// Each shape gives what lies behind, the bodies that carry colour and pattern, and what lies in front.
const SHAPES = {
  tent: (c, form) => [
    {
      body: ['M60 26 L108 102 L12 102 Z'],
      back: line('M60 26 L54 16 M60 26 L66 16', c.woodDark, 3) + line('M16 98 L4 106 M104 98 L116 106', c.metalDark, 1.5),
      front: fill('M60 46 L79 102 L41 102 Z', c.deep) + fill('M60 46 L41 102 L33 102 L55 62 Z', c.accent),
    },
    {
      body: ['M10 102 C12 56 36 28 60 28 C84 28 108 56 110 102 Z'],
      front: line('M60 28 C44 46 34 74 32 102 M60 28 C76 46 86 74 88 102', c.pale, 1.6, 'opacity=".7"')
        + fill('M60 58 C72 66 77 84 78 102 L42 102 C43 84 48 66 60 58Z', c.deep) + fill('M60 58 C52 64 45 76 42 102 L35 102 C38 80 46 64 60 58Z', c.accent),
    },
    {
      body: ['M8 102 C8 62 26 44 46 42 L88 30 C104 38 113 68 113 102 Z'],
      front: fill('M8 102 C8 62 26 44 46 42 C60 48 66 74 66 102 Z', c.deep, 'opacity=".35"') + fill('M20 102 C20 74 30 58 42 56 C52 60 56 80 56 102 Z', c.deep)
        + line('M88 30 C96 46 99 74 98 102', c.pale, 1.6, 'opacity=".7"'),
    },
    {
      body: ['M6 54 L60 24 L114 54 L60 66 Z'],
      back: line('M60 24 V102', c.woodDark, 3.4) + line('M6 54 L2 104 M114 54 L118 104', c.metalDark, 1.5) + fill('M24 102 L96 102 L84 88 L36 88Z', c.dark, 'opacity=".35"'),
      front: fill('M6 54 L60 66 L114 54 L60 75 Z', c.deep, 'opacity=".55"'),
    },
  ][form],

  'sleeping-bag': (c, form) => form % 2 ? {
    body: [box(16, 50, 84, 46, 22)],
    front: `<ellipse cx="92" cy="73" rx="15" ry="23" fill="${c.dark}"/>` + line('M92 60 C100 62 101 84 92 85 C84 84 86 68 92 68 C96 68 96 79 92 78', c.pale, 2)
      + round(34, 49, 6, 48, 3, c.accentDark) + round(62, 49, 6, 48, 3, c.accentDark) + round(32, 70, 10, 8, 2, c.metal) + round(60, 70, 10, 8, 2, c.metal),
  } : {
    ground: 30,
    body: ['M38 22 C40 8 80 8 82 22 C96 40 91 64 83 92 C80 106 40 106 37 92 C29 64 24 40 38 22 Z'],
    front: `<ellipse cx="60" cy="29" rx="15" ry="12" fill="${c.deep}"/><ellipse cx="60" cy="33" rx="11" ry="7" fill="${c.accent}"/>`
      + line('M31 54 Q60 62 89 54 M33 70 Q60 78 87 70 M37 86 Q60 94 83 86', c.deep, 1.6, 'opacity=".4"') + line('M75 38 C80 60 76 78 70 96', c.pale, 2, 'stroke-dasharray="1 3.5"'),
  },

  stove: (c, form) => ({
    ground: 34,
    back: form % 2 ? fill('M34 42 L40 22 H84 L90 42 Z', c.metal) + fill('M40 22 H62 L58 42 H34 Z', '#fff', 'opacity=".25"') + line('M88 34 L108 28', c.ink, 5) : '',
    body: [box(34, 68, 52, 34, 12)],
    front: round(53, 58, 14, 12, 3, c.metalDark) + round(46, 52, 28, 8, 3, c.metal) + line('M46 54 L32 42 M74 54 L88 42 M60 52 V42', c.metalDark, 3)
      + fill('M60 26 C68 36 70 42 66 49 C64 52 56 52 54 49 C50 42 54 38 60 26 Z', form % 2 ? 'none' : c.accent) + (form % 2 ? fill('M44 52 C46 46 50 46 52 52 C54 45 58 45 60 52 C62 45 66 45 68 52 C70 46 74 46 76 52Z', '#5aa9f0', 'opacity=".85"') : fill('M60 36 C64 42 64 46 60 50 C56 46 57 42 60 36Z', '#fff', 'opacity=".7"'))
      + round(42, 80, 36, 12, 3, c.pale, 'opacity=".85"') + line('M78 62 H92', c.ink, 4),
  }),

  backpack: (c, form) => ({
    ground: 34,
    back: line('M48 24 C48 10 72 10 72 24', c.deep, 5) + round(20, 52, 14, 36, 7, c.dark) + round(86, 52, 14, 36, 7, c.dark)
      + (form === 3 ? round(30, 10, 60, 16, 8, c.accentDark) + line('M42 10 V26 M78 10 V26', c.deep, 3) : ''),
    body: ['M32 46 C32 18 88 18 88 46 L92 92 C92 106 28 106 28 92 Z'],
    front: (form % 2 ? fill('M31 46 C32 16 88 16 89 46 C88 58 32 58 31 46 Z', c.dark) + round(44, 50, 6, 18, 2, c.wood) + round(70, 50, 6, 18, 2, c.wood)
      : line('M34 46 Q60 34 86 46', c.deep, 2.4, 'opacity=".6"')) + round(38, 68, 44, 28, 9, c.dark) + line('M42 76 H78', c.pale, 2, 'stroke-dasharray="2 2.5"') + disc(60, 84, 3.4, c.accent),
  }),

  boots: (c, form) => ({
    back: fill('M48 18 H76 L78 60 L98 72 Q106 78 106 90 H44 Z', c.deep, 'opacity=".5" transform="translate(8 -3)"'),
    body: [form % 2 ? 'M34 34 H68 L71 60 C86 64 104 70 106 90 H30 L35 62 Z' : 'M34 16 H68 L70 58 C86 62 104 70 106 90 H30 L36 52 Z'],
    front: fill('M28 88 H108 V96 Q108 101 102 101 H34 Q28 101 28 96 Z', c.ink) + line('M38 101 V97 M48 101 V97 M58 101 V97 M70 101 V97 M82 101 V97 M94 101 V97', c.pale, 2, 'opacity=".35"')
      + round(31, form % 2 ? 30 : 12, 40, 9, 4.5, c.accent) + line(form % 2 ? 'M56 48 L72 44 M58 56 L76 53 M62 64 L84 61' : 'M54 32 L70 28 M56 42 L72 38 M58 52 L74 49 M62 62 L84 60', c.pale, 2.6)
      + fill('M88 74 C98 76 105 82 106 90 H84 C84 82 85 78 88 74Z', c.deep, 'opacity=".5"'),
  }),

  lantern: (c, form) => ({
    ground: 30,
    back: line('M40 36 C36 2 84 2 80 36', c.metalDark, 3) + round(40, 38, 40, 42, form % 2 ? 18 : 8, '#fff3c4') + disc(60, 60, 14, '#ffd25e', 'opacity=".75"') + disc(60, 60, 6, '#fff'),
    body: ['M36 40 C38 24 82 24 84 40 Z', box(32, 78, 56, 24, 9)],
    front: line('M44 40 V78 M76 40 V78', c.metalDark, 2.4) + (form > 1 ? line('M44 52 H76 M44 66 H76', c.metalDark, 1.6) : '') + disc(60, 90, 5, c.accent) + disc(60, 90, 2, '#fff', 'opacity=".7"'),
  }),

  mug: (c, form) => ({
    ground: 38,
    back: line('M80 50 C108 44 108 86 78 80', c.dark, 9) + (form > 1 ? line('M44 26 C40 18 50 16 46 8 M58 26 C54 18 64 16 60 8', c.metal, 2.4, 'opacity=".6"') : ''),
    body: [form % 2 ? 'M26 38 H82 L77 92 C76 104 32 104 31 92 Z' : 'M26 38 H82 V86 C82 106 26 106 26 86 Z'],
    front: `<ellipse cx="54" cy="38" rx="28" ry="7.5" fill="${c.pale}"/><ellipse cx="54" cy="39.5" rx="23" ry="5.2" fill="#5b3a29"/>` + (form === 1 ? line('M26 38 A28 7.5 0 0 0 82 38', c.ink, 2) : ''),
  }),

  teapot: (c, form) => ({
    ground: 42,
    back: (form % 2 ? line('M34 46 C34 6 86 6 86 46', c.woodDark, 5) : line('M88 54 C114 50 114 88 86 86', c.dark, 7)) + fill('M34 78 C18 76 20 54 8 50 L18 44 C30 50 28 62 38 64 Z', c.dark),
    body: [form > 1 ? 'M38 46 H84 C96 60 96 84 88 98 Q60 106 34 98 C26 84 26 60 38 46 Z' : 'M60 42 C92 42 98 64 94 82 C90 104 30 104 26 82 C22 64 28 42 60 42 Z'],
    front: fill('M40 47 C42 34 78 34 80 47 Q60 54 40 47Z', c.main) + line('M40 47 Q60 54 80 47', c.deep, 1.6, 'opacity=".5"') + disc(60, 33, 5.5, c.accent),
  }),

  pan: (c, form) => ({
    back: line('M72 50 L108 18', form % 2 ? c.wood : c.ink, 9) + disc(107, 19, 2.2, '#fff', 'opacity=".7"'),
    body: [ball(48, 68, 37)],
    front: disc(48, 68, 30, c.deep) + disc(48, 68, 30, '#fff', 'opacity=".06"') + line('M27 57 A24 24 0 0 1 48 44', '#fff', 3, 'opacity=".35"')
      + (form > 1 ? fill('M36 66 C34 56 50 52 58 58 C68 60 68 76 58 78 C52 86 34 82 36 66Z', '#fdfbf4') + disc(51, 68, 7.5, '#f7b733') + disc(49, 66, 2.2, '#fff', 'opacity=".7"') : ''),
  }),

  bottle: (c, form) => ({
    ground: 26,
    back: form > 1 ? line('M72 24 C86 24 86 40 76 42', c.metalDark, 4) : '',
    body: [form % 2 ? box(40, 34, 40, 69, 10) : 'M48 32 C46 44 36 46 36 60 V94 C36 105 84 105 84 94 V60 C84 46 74 44 72 32 Z'],
    front: round(47, 13, 26, 20, 5, form % 2 ? c.wood : c.ink) + line('M50 19 H70 M50 25 H70', '#fff', 1.2, 'opacity=".25"') + (form % 2 ? '' : round(44, 66, 32, 20, 4, c.pale, 'opacity=".88"') + line('M50 73 H70 M50 79 H64', c.dark, 2)),
  }),

  lamp: (c, form) => ({
    ground: 30,
    back: fill('M26 60 L6 104 H114 L94 60 Z', '#ffdf8a', 'opacity=".22"') + (form % 2 ? line('M60 56 V98', c.wood, 5) : line('M60 56 V98', c.metalDark, 4)) + `<ellipse cx="60" cy="100" rx="22" ry="5.5" fill="${form % 2 ? c.woodDark : c.ink}"/>`,
    body: [['M42 20 H78 L98 62 H22 Z', 'M24 62 C24 28 44 18 60 18 C76 18 96 28 96 62 Z', 'M34 22 H86 V62 H34 Z', 'M30 42 C30 12 90 12 90 42 C90 56 78 62 60 62 C42 62 30 56 30 42 Z'][form]],
    front: form === 3 ? disc(60, 58, 6, '#ffe9b0') : line(form === 2 ? 'M34 60.5 H86' : 'M24 60.5 H96', '#ffe9b0', 3) + line('M78 62 V76', c.metalDark, 1.2) + disc(78, 78, 2.2, c.accent),
  }),

  chair: (c, form) => [
    { back: line('M32 86 L26 104 M88 86 L94 104', c.woodDark, 5), body: ['M30 62 C26 20 40 16 60 16 C80 16 94 20 90 62 Z', box(16, 54, 18, 40, 9), box(86, 54, 18, 40, 9), box(28, 66, 64, 26, 9)],
      front: line('M34 70 H86', c.deep, 1.6, 'opacity=".35"') },
    { back: line('M38 18 V104 M82 18 V104 M34 72 L30 104 M86 72 L90 104', c.wood, 5), body: [box(36, 20, 48, 26, 8), 'M32 62 H88 L94 76 H26 Z'] },
    { back: line('M40 88 L30 104 M80 88 L90 104', c.metalDark, 4), body: ['M24 40 C24 20 96 20 96 40 C100 66 92 92 60 92 C28 92 20 66 24 40 Z'], front: fill('M36 62 C40 54 80 54 84 62 C86 80 76 86 60 86 C44 86 34 80 36 62Z', c.dark, 'opacity=".65"') },
    { back: line('M34 84 L20 104 M84 84 L98 104 M26 44 L38 84', c.wood, 5), body: ['M24 20 C34 14 46 16 50 24 L60 66 H96 C106 68 106 86 96 86 H46 C40 86 36 82 34 76 Z'], front: line('M60 66 H92', c.deep, 1.6, 'opacity=".35"') },
  ][form],

  cushion: (c, form) => ({
    body: [form === 3 ? ball(60, 62, 40) : 'M20 28 Q60 18 100 28 Q110 62 100 98 Q60 106 20 98 Q10 62 20 28 Z'],
    front: (form % 2 ? disc(60, 62, 4, c.accent) + line('M60 62 L40 46 M60 62 L80 46 M60 62 L42 80 M60 62 L78 80', c.deep, 1.5, 'opacity=".35"')
      : line('M27 35 Q60 27 93 35 Q100 62 93 91 Q60 98 27 91 Q20 62 27 35Z', c.pale, 1.6, 'stroke-dasharray="3 3" opacity=".8"'))
      + (form === 2 ? disc(20, 28, 5, c.accent) + disc(100, 28, 5, c.accent) + disc(20, 98, 5, c.accent) + disc(100, 98, 5, c.accent) : ''),
  }),

  vase: (c, form) => ({
    ground: 28,
    back: form > 1 ? line('M58 30 C54 16 46 12 40 6 M62 30 C66 18 72 14 80 8 M60 30 V8', '#6b8f5e', 2.4) + disc(40, 7, 5.5, c.accent) + disc(80, 9, 5.5, c.accent) + disc(60, 8, 6, c.pale) : '',
    body: [['M48 20 H72 C70 36 94 52 92 76 C90 96 78 104 60 104 C42 104 30 96 28 76 C26 52 50 36 48 20 Z', 'M44 20 H76 C72 40 82 60 80 80 L74 104 H46 L40 80 C38 60 48 40 44 20 Z',
      'M50 30 H70 C70 42 98 50 96 74 C94 94 80 103 60 103 C40 103 26 94 24 74 C22 50 50 42 50 30 Z', 'M42 30 H78 L88 98 Q60 108 32 98 Z'][form]],
    front: `<ellipse cx="60" cy="${form > 1 ? 30 : 20}" rx="${[12, 16, 10, 18][form]}" ry="3.4" fill="${c.deep}"/>`,
  }),

  plant: (c, form) => {
    const leaf = (d, shade) => fill(d, `hsl(${118 + form * 9} 34% ${shade}%)`);
    const crown = [
      leaf('M60 72 C30 66 18 44 20 24 C40 28 58 46 60 72Z', 36) + leaf('M60 72 C90 66 102 44 100 24 C80 28 62 46 60 72Z', 30) + leaf('M60 72 C44 52 46 24 60 8 C74 24 76 52 60 72Z', 44),
      line('M60 72 V40', '#7a5a3c', 4) + [[60, 26, 22], [40, 40, 16], [80, 40, 16]].map(([x, y, r], n) => disc(x, y, r, `hsl(128 32% ${38 + n * 4}%)`)).join('') + disc(54, 20, 7, '#fff', 'opacity=".12"'),
      leaf('M58 70 C28 72 12 52 16 34 C30 30 34 40 34 48 C38 40 36 32 40 28 C54 34 60 52 58 70Z', 33) + leaf('M62 70 C92 72 108 50 104 30 C90 28 86 38 86 46 C82 38 84 28 78 24 C64 32 60 52 62 70Z', 41) + leaf('M60 60 C46 42 48 20 60 10 C72 20 74 42 60 60Z', 48),
      [[-58, 34], [-34, 40], [-12, 46], [12, 43], [34, 38], [58, 31]].map(([turn, shade]) => `<g transform="rotate(${turn} 60 74)">${leaf('M60 74 C54 50 55 24 60 8 C65 24 66 50 60 74Z', shade)}</g>`).join(''),
    ][form];
    return { ground: 28, back: crown, body: ['M36 68 H84 L77 104 H43 Z'], front: round(33, 64, 54, 9, 3, c.dark) };
  },

  clock: (c, form) => ({
    ground: 30,
    back: form === 3 ? line('M40 92 L32 104 M80 92 L88 104', c.dark, 6) + disc(36, 24, 10, c.dark) + disc(84, 24, 10, c.dark) : '',
    body: [form === 1 ? box(18, 18, 84, 84, 20) : ball(60, 60, 43)],
    front: disc(60, 60, 34, '#fbf9f4') + [0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330].map((turn) => `<g transform="rotate(${turn} 60 60)">${line('M60 30 V34.5', c.ink, turn % 90 ? 1.3 : 3)}</g>`).join('')
      + line(`M60 60 L${form % 2 ? '44 50' : '76 48'}`, c.ink, 4) + line(`M60 60 L${form > 1 ? '60 35' : '52 84'}`, c.ink, 2.6) + disc(60, 60, 3.6, c.accentDark),
  }),

  tee: (c, form) => ({
    ground: 30,
    body: ['M42 20 C48 31 72 31 78 20 L106 36 L95 59 L85 53 V101 Q60 105 35 101 V53 L25 59 L14 36 Z'],
    front: line('M42 20 C48 33 72 33 78 20', form % 2 ? c.accent : c.deep, 4) + (form > 1 ? round(66, 48, 14, 16, 2, c.dark) + line('M66 52 H80', c.pale, 1.4) : disc(60, 58, form ? 0 : 11, c.accent))
      + line('M35 53 V66 M85 53 V66', c.deep, 1.5, 'opacity=".35"'),
  }),

  knit: (c, form) => ({
    ground: 34,
    body: ['M42 20 C48 28 72 28 78 20 L99 30 L112 88 L97 93 L86 60 V99 H34 V60 L23 93 L8 88 L21 30 Z'],
    front: line('M42 20 C48 31 72 31 78 20', c.dark, 6) + round(34, 93, 52, 9, 3, c.dark) + fill('M97 93 L112 88 L110 80 L94 85Z', c.dark) + fill('M23 93 L8 88 L10 80 L26 85Z', c.dark)
      + (form % 2 ? line('M38 48 L45 42 L52 48 L60 42 L68 48 L75 42 L82 48', c.accent, 3) + line('M38 56 L45 50 L52 56 L60 50 L68 56 L75 50 L82 56', c.pale, 2) : line('M46 34 V92 M60 34 V92 M74 34 V92', c.deep, 1.6, 'opacity=".28"')),
  }),

  beanie: (c, form) => ({
    ground: 38,
    back: form % 2 ? disc(60, 20, 13, c.accent) + disc(56, 16, 5, '#fff', 'opacity=".25"') : '',
    body: ['M24 80 C22 38 42 24 60 24 C78 24 98 38 96 80 Z'],
    front: round(18, 72, 84, 25, 10, c.dark) + line([26, 34, 42, 50, 58, 66, 74, 82, 90].map((x) => `M${x + 1} 77 V92`).join(' '), c.pale, 1.6, 'opacity=".35"')
      + (form > 1 ? round(66, 78, 22, 12, 2, c.accent) : '') + line('M60 26 C48 40 46 58 46 72 M60 26 C72 40 74 58 74 72', c.deep, 1.5, 'opacity=".25"'),
  }),

  sneaker: (c, form) => ({
    ground: 50,
    body: [form % 2 ? 'M14 46 C22 50 34 46 40 32 L58 32 C62 52 82 60 96 64 C106 67 110 76 110 86 H12 Z' : 'M14 58 C26 61 36 52 42 40 C52 53 68 58 78 62 C96 67 108 70 110 86 H12 Z'],
    front: fill('M10 84 H111 Q114 98 104 100 H20 Q8 100 10 84 Z', '#f7f6f2') + line('M12 91 H110', c.accent, 2.6) + line('M50 48 L60 42 M58 54 L68 48 M67 59 L77 53', '#fff', 3)
      + fill('M22 80 C40 82 58 74 72 64 C62 80 46 86 26 86 Z', c.accent) + fill('M92 68 C102 71 108 76 110 84 H88 C88 78 89 72 92 68Z', c.deep, 'opacity=".35"'),
  }),

  sunglasses: (c, form) => ({
    ground: 44,
    back: line('M18 50 L8 40 M102 50 L112 40', c.deep, 4),
    body: form % 2 ? [ball(36, 62, 24), ball(84, 62, 24)] : [box(12, 44, 42, 36, form ? 8 : 16), box(66, 44, 42, 36, form ? 8 : 16)],
    front: (form % 2 ? disc(36, 62, 19, '#22262e') + disc(84, 62, 19, '#22262e') : round(16.5, 48.5, 33, 27, form ? 5 : 12, '#22262e') + round(70.5, 48.5, 33, 27, form ? 5 : 12, '#22262e'))
      + line(form % 2 ? 'M24 56 L34 48 M72 56 L82 48' : 'M22 62 L34 50 M76 62 L88 50', c.accent, 4, 'opacity=".75"') + line('M53 54 Q60 47 67 54', c.dark, 5),
  }),

  headphones: (c, form) => ({
    ground: 40,
    back: line('M22 70 C18 2 102 2 98 70', c.ink, 8) + line('M25 58 C26 10 94 10 95 58', c.main, 3.4) + round(28, 58, 12, 40, 6, c.ink) + round(80, 58, 12, 40, 6, c.ink),
    body: form % 2 ? [ball(24, 78, 18), ball(96, 78, 18)] : [box(10, 56, 24, 44, 12), box(86, 56, 24, 44, 12)],
    front: form % 2 ? disc(24, 78, 9, c.dark) + disc(96, 78, 9, c.dark) + disc(24, 78, 4, c.accent) + disc(96, 78, 4, c.accent) : line('M22 66 V90 M98 66 V90', c.accent, 3),
  }),

  speaker: (c, form) => form % 2 ? {
    ground: 46, back: line('M30 44 C34 16 86 16 90 44', c.woodDark, 5), body: [box(10, 42, 100, 58, 18)],
    front: disc(37, 71, 19, c.ink) + disc(37, 71, 9, c.metalDark) + disc(83, 71, 19, c.ink) + disc(83, 71, 9, c.metalDark) + disc(34, 68, 3, '#fff', 'opacity=".35"') + disc(80, 68, 3, '#fff', 'opacity=".35"') + round(54, 50, 12, 4, 2, c.accent),
  } : {
    ground: 30, body: [box(32, 12, 56, 91, form ? 26 : 9)],
    front: disc(60, 36, 10, c.ink) + disc(60, 36, 4, c.metal) + disc(60, 74, 21, c.ink) + disc(60, 74, 16, '#3a3d45') + disc(60, 74, 7, c.accent) + disc(55, 68, 4, '#fff', 'opacity=".22"'),
  },

  camera: (c, form) => ({
    ground: 46,
    back: round(40, 28, 40, 20, 5, c.deep) + round(20, 34, 16, 10, 3, c.metalDark) + (form > 1 ? line('M14 50 C2 70 4 92 10 102 M106 50 C118 70 116 92 110 102', c.woodDark, 3) : ''),
    body: [box(12, 40, 96, 60, 11)],
    front: round(12, 40, 96, 13, 8, '#d9dbdf') + disc(60, 72, 25, c.ink) + disc(60, 72, 20, '#4a4e58') + disc(60, 72, 13, '#1b2230') + disc(60, 72, 7, c.accentDark, 'opacity=".7"') + disc(54, 66, 4.4, '#fff', 'opacity=".55"')
      + round(86, 57, 14, 8, 2, '#fff4cf') + disc(25, 61, 3.4, form % 2 ? '#d84a3a' : c.accent),
  }),
};

/** A mark of 5 × 5 cells, mirrored: the same id always looks the same. */
function mark(text, id) {
  let bits = hash(text);
  const hue = bits % 360;
  const cells = [];
  for (let row = 0; row < 5; row += 1) {
    for (let column = 0; column < 3; column += 1) {
      bits = Math.imul(bits ^ (bits >>> 15), 0x2c1b3c6d) >>> 0;
      if (bits % 5 < 2) continue;
      const shade = 44 + (bits % 3) * 9;
      for (const x of new Set([column, 4 - column])) {
        cells.push(`<rect x="${22 + x * 15.5}" y="${22 + row * 15.5}" width="14" height="14" rx="4" fill="hsl(${(hue + (bits % 2) * 34) % 360} 46% ${shade}%)"/>`);
      }
    }
  }
  return `<svg viewBox="0 0 120 120" aria-hidden="true" focusable="false" data-mark="${id}">${cells.join('')}</svg>`;
}

/** FNV-1a, finished so that near ids look unlike. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const unit of new TextEncoder().encode(text)) value = Math.imul(value ^ unit, 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
