// Colours of regions: dark enough for white text (WCAG AA), and told apart by the colour-blind in their first four.
// A number always stands beside the colour.
const COLOURS = ["#0b62c4", "#b84300", "#00766c", "#9b2393", "#7a5c00", "#4a3fb8", "#b0123b", "#4b6a00"] as const;

export const colourOf = (index: number): string => COLOURS[index % COLOURS.length] ?? COLOURS[0];

export function channels(colour: string, alpha: number): [number, number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255, alpha];
}
