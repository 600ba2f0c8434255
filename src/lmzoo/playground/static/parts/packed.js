// Arrays of numbers that the server sends as bytes in base64.

/** @typedef {{shape: number[], values: Float32Array}} Numbers an array of numbers, in row-major order */

/**
 * Returns the numbers of a packed array.
 * @param {{shape: number[], data: string}} packed
 * @returns {Numbers}
 */
export function unpacked(packed) {
  const text = atob(packed.data);
  const bytes = new DataView(new ArrayBuffer(text.length));
  for (let index = 0; index < text.length; index++) bytes.setUint8(index, text.charCodeAt(index));
  const values = new Float32Array(text.length / 4);
  for (let index = 0; index < values.length; index++) values[index] = bytes.getFloat32(4 * index, true);
  return { shape: packed.shape, values };
}
