// Reads an OpenAI-shaped event stream from a fetch body. Knows nothing of the page.

export class AnswerError extends Error {}

/** Yields the parsed chunks of a streamed answer; throws AnswerError with a sentence for people.
    `begun` is told the answer's headers. */
export async function* chunks(url, body, signal, begun = () => {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream, application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new AnswerError(await reason(response));
  begun(response.headers);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new AnswerError(chunk.error.message);
      yield chunk;
    }
  }
  throw new AnswerError("The answer broke off: the connection closed before its end.");
}

async function reason(response) {
  if (response.status === 401) return "You are logged out. Reload the page to log in again.";
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}
