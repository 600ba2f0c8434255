// Requests to the server.

import { announce } from "./dom.js";
import { notify } from "./state.js";

const PAUSE = 2000; // milliseconds between two questions whether the server answers again
const SILENCE = "The server does not answer: is lmzoo play still running?";

/** An error that the server reports in a sentence. */
export class ApiError extends Error {}

let waiting = false;

/**
 * Sends JSON to the server and returns its answer.
 * @param {string} path
 * @param {any} [body] the request is a GET without it
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function request(path, body, signal) {
  const response = await send(path, body, signal);
  return arrived(response.json(), signal);
}

/**
 * Sends JSON to the server and yields the JSON values of its stream of events.
 * @param {string} path
 * @param {any} body
 * @param {AbortSignal} [signal]
 * @returns {AsyncGenerator<any>}
 */
export async function* events(path, body, signal) {
  const response = await send(path, body, signal);
  const stream = /** @type {ReadableStream<BufferSource>} */ (response.body);
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await arrived(reader.read(), signal);
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = /** @type {string} */ (blocks.pop());
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

/**
 * @param {string} path
 * @param {any} body
 * @param {AbortSignal} [signal]
 */
async function send(path, body, signal) {
  const options = body === undefined ? { signal } : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
  };
  const response = await arrived(fetch(path, options), signal);
  if (!response.ok) {
    const problem = await response.json().catch(() => null);
    throw new ApiError(problem?.error?.message ?? `The server answered with status ${response.status}.`);
  }
  return response;
}

/**
 * Returns a part of an answer, or fails with a sentence if the connection fails.
 * @template T
 * @param {Promise<T>} part
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
async function arrived(part, signal) {
  try {
    return await part;
  } catch (error) {
    if (signal?.aborted) throw error;
    waitForServer();
    throw new ApiError(SILENCE);
  }
}

/** Says that the server does not answer, until it does; all parts of the page then show what they need. */
async function waitForServer() {
  if (waiting) return;
  waiting = true;
  do {
    announce(SILENCE);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  } while (!await fetch("/healthz").then(({ ok }) => ok, () => false));
  waiting = false;
  announce("The server answers again.");
  notify();
}

/**
 * Returns a function that runs the newest request only: it stops the request before, whose answer is dropped.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} ask
 * @param {number} [delay] milliseconds to wait for a newer call before the request starts
 * @returns {() => Promise<T | undefined>} gives undefined if a newer call came
 */
export function newest(ask, delay = 50) {
  let controller = new AbortController();
  return async () => {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    await new Promise((resolve) => setTimeout(resolve, delay));
    if (signal.aborted) return undefined;
    try {
      const answer = await ask(signal);
      return signal.aborted ? undefined : answer;
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
  };
}
