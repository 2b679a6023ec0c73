// Numbers as colours: dark blue (least) over green to yellow (most), even to the eye, and readable
// without telling red from green (points of matplotlib's viridis).
const STOPS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

// share in [0, 1] -> [r, g, b], 0 to 255.
export function colourOf(share) {
  const place = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[low].map((value, i) =>
    Math.round(value + (STOPS[low + 1][i] - value) * (place - low)),
  );
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

// Black or white, whichever reads better on it (WCAG's relative luminance).
export function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const channel = value / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

// The whole scale, from left to right.
export function drawScale(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; ++x) {
    context.fillStyle = css(colourOf(x / (canvas.width - 1)));
    context.fillRect(x, 0, 1, canvas.height);
  }
}
