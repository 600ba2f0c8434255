// Positions in texts: the server counts characters, JavaScript counts units of UTF-16, two of which can be a character.

/**
 * Returns a function that gives the part of a text between two numbers of characters.
 * @param {string} text
 * @returns {(start: number, end?: number) => string}
 */
export function slicer(text) {
  const characters = Array.from(text);
  if (characters.length === text.length) return (start, end) => text.slice(start, end);
  return (start, end) => characters.slice(start, end).join("");
}
