// Requests to the server.

/** An error that the server reports in a sentence. */
export class ApiError extends Error {}

/**
 * Sends JSON to the server and returns its answer.
 * @param {string} path
 * @param {any} [body] the request is a GET without it
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function request(path, body, signal) {
  const response = await send(path, body, signal);
  return response.json();
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
    const { value, done } = await reader.read();
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
  const response = await fetch(path, options).catch((error) => {
    if (signal?.aborted) throw error;
    throw new ApiError("The server does not answer: does lmzoo play still run?");
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => null);
    throw new ApiError(problem?.error?.message ?? `The server answered with status ${response.status}.`);
  }
  return response;
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
